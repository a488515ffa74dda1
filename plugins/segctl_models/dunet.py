"""DUNet: Tian, He, Shen and Yan, "Decoders Matter for Semantic Segmentation: Data-Dependent Decoding Enables Flexible
Feature Aggregation", 2019, https://arxiv.org/abs/1903.02120.

Section 3.1 gives data-dependent upsampling (DUpsampling): a linear map W turns the features of a position into the
scores of all pixels of its tile, r by r pixels for a network of output stride r. Section 3.2 divides the scores by a
learnt temperature, section 3.3 joins low-level features at the resolution of the last ones.

W can be known before any training: `segctl weights dunet-upsampling` computes the one that rebuilds the training masks
best (section 3.1, equation 3; the principal components of their tiles), for the option ``upsampling_weights``.

There is no release of the authors. What the paper leaves open is as in the public reimplementations: the low-level
features are those of the stem and of the third stage (conv1_3 and conv4_6), reduced to 48 channels together; two 3x3
convolutions of 256 channels with dropout follow, then a linear one, because W expects values of either sign. Here the
logarithm of the temperature is learnt, which keeps it positive. Where height or width are no multiples of r, the last
tiles reach beyond the image and are cut off.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segctl.errors import WeightsError

from . import backbones
from .backbones.deep_stem import create_deep_stem
from .backbones.weights import initialise, read_state
from .layers.conv import ConvNormAct
from .layers.resize import resize

__all__ = ["DUNet", "DUpsampling", "dunet"]

CHANNELS = 256  # of the features that W maps to scores
TEMPERATURE = 0.1  # at first: rebuilt labels score between 0 and 1, which makes a softmax of temperature 1 almost flat

_UPSAMPLING = ("upsample.weight", "upsample.bias")  # the entries of W and of the tiles' mean


class DUNet(nn.Module):
    """An encoder, the aggregation of its features, and data-dependent upsampling.

    Args:
        backbone: Maps images ``(N, 3, H, W)`` to a sequence of feature maps, the first of stride 2, the deepest last.
        num_classes: Number of classes C.

    `forward` gives ``{"out": (N, C, H, W)}``.
    """

    def __init__(self, backbone: nn.Module, num_classes: int) -> None:
        super().__init__()
        stem, *_, third, last = backbone.channels
        self.backbone = backbone
        self.low_level = ConvNormAct(stem + third, 48, 1)
        self.fuse = nn.Sequential(
            ConvNormAct(last + 48, 256, 3),
            nn.Dropout(0.5),
            ConvNormAct(256, 256, 3),
            nn.Dropout(0.1),
            nn.Conv2d(256, CHANNELS, 1),
        )
        self.upsample = DUpsampling(CHANNELS, num_classes, backbone.strides[-1])

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        stem, *_, third, last = self.backbone(image)
        low_level = torch.cat([resize(features, last.shape[-2:]) for features in (stem, third)], dim=1)
        x = self.fuse(torch.cat([last, self.low_level(low_level)], dim=1))
        height, width = image.shape[-2:]
        return {"out": self.upsample(x)[..., :height, :width]}


class DUpsampling(nn.Module):
    """Section 3.1: each position's features give the scores of r x r pixels; section 3.2: over a learnt temperature.

    Args:
        channels: Channels of the features.
        num_classes: Number of classes C.
        ratio: The factor r by which height and width grow.

    Attributes:
        weight: W, ``(C * r * r, channels, 1, 1)``; row c r² + i r + j is the score of class c in row i and column j of
            a tile.
        bias: The tiles' mean, which the paper leaves out of its equations, ``(C * r * r,)``.

    `forward` maps ``(N, channels, h, w)`` to logits ``(N, C, r h, r w)``.
    """

    def __init__(self, channels: int, num_classes: int, ratio: int) -> None:
        super().__init__()
        self.ratio = ratio
        linear = nn.Conv2d(channels, num_classes * ratio**2, 1)
        self.weight, self.bias = linear.weight, linear.bias
        self.log_temperature = nn.Parameter(torch.tensor(TEMPERATURE).log())

    def forward(self, x: Tensor) -> Tensor:
        scores = F.conv2d(x, self.weight, self.bias)
        return F.pixel_shuffle(scores * torch.exp(-self.log_temperature), self.ratio)


def _load_upsampling(model: DUNet, file: str, num_classes: int) -> None:
    """Takes W and the mean from a file that `segctl weights dunet-upsampling` wrote.

    Raises:
        WeightsError: It cannot be read, or is for another number of classes or output stride.
    """
    own = {name: value.shape for name, value in model.state_dict().items() if name in _UPSAMPLING}
    hint = (
        f"For {num_classes} classes, compute it by `segctl weights dunet-upsampling --dataset NAME "
        f"--model.output_stride {model.upsample.ratio} -o FILE`."
    )
    state = read_state(Path(file).expanduser(), hint)
    found = {name: value.shape for name, value in state.items()}
    if found != own:
        shapes = ", ".join(f"{name} {tuple(shape)}" for name, shape in own.items())
        raise WeightsError(f"{file} does not hold this model's upsampling alone ({shapes}).", hint)
    model.load_state_dict(state, strict=False)


def dunet(
    num_classes: int,
    *,
    backbone: backbones.DilatedName = "resnet50",
    output_stride: Literal[16, 32] = 16,
    stem: backbones.Stem | None = None,
    upsampling_weights: str | None = None,
    pretrained: bool = False,
    weights: str | None = None,
) -> nn.Module:
    """DUNet: a decoder of low resolution whose upsampling is learnt from the masks.

    Args:
        num_classes: Number of classes.
        backbone: Feature extractor.
        output_stride: Size of the image over that of the last feature map, which is also the factor of the upsampling.
        stem: First layers of a ResNet, by default ``v1s``. torchvision's ImageNet weights fit ``7x7`` only.
        upsampling_weights: A file of `segctl weights dunet-upsampling`, to begin with the upsampling that suits the
            data set's masks instead of a random one. Goes before what `weights` has of it.
        pretrained: Start from torchvision's ImageNet weights, downloaded once; a ResNet needs the stem ``7x7``.
        weights: A local file to start from instead: a state dict of the whole model or of the backbone.

    Raises:
        ConfigError: There is a stem given for something else than a ResNet.
        WeightsError: The weights cannot be had, or do not fit.
    """
    features = create_deep_stem(backbone, output_stride=output_stride, stem=stem, stride2=True)
    model = DUNet(features, num_classes)
    initialise(model, weights=weights, pretrained=pretrained)
    if upsampling_weights is not None:
        _load_upsampling(model, upsampling_weights, num_classes)
    return model
