"""U-Net: Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015,
https://arxiv.org/abs/1505.04597. Sections 2 (the network), 3 (initial weights) and 3.1 (dropout) are followed.

Unlike the paper's, convolutions are padded, so that the logits are as large as the image, and an odd height or width is
rounded up when halved and cut back after its up-convolution. Normalisation is younger than the paper: by default a
batch normalisation stands behind each 3x3 convolution (whose bias it replaces), and `norm=False` gives the paper's
network. "Drop-out layers at the end of the contracting path" are, as in the authors' Caffe model, of 0.5 behind the two
deepest levels.

With another backbone, its feature maps are what the decoder is given, and nothing is cropped: a map is resized to the
next finer one. The decoder is that of segmentation_models_pytorch, so that its weights fit (24,436,369 parameters with
ResNet-34 and one class).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segctl.errors import ConfigError, listing

from . import backbones
from .backbones.weights import initialise
from .layers.conv import ConvNormAct
from .layers.resize import strided_size

__all__ = ["EncoderUNet", "UNet", "unet"]

DECODER = (256, 128, 64, 32, 16)  # channels at strides 16, 8, 4, 2 and 1, behind another backbone than the paper's


class UNet(nn.Module):
    """The network of Figure 1, level by level.

    Args:
        num_classes: Number of classes C.
        width: Feature channels of the first level; each downsampling doubles them.
        norm: Whether 3x3 convolutions are normalised.
        dropout: Probability of a value's being dropped behind the two deepest levels.

    `forward` maps images ``(N, 3, H, W)`` to ``{"out": (N, C, H, W)}``.
    """

    def __init__(self, num_classes: int, *, width: int = 64, norm: bool = True, dropout: float = 0.5) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(5)]
        self.down = nn.ModuleList(
            _two_convolutions(before, after, norm) for before, after in zip([3, *widths[:-1]], widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.dropouts = nn.ModuleList(nn.Dropout(p) for p in (0, 0, 0, dropout, dropout))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
        self.merge = nn.ModuleList(_two_convolutions(2 * w, w, norm) for w in reversed(widths[:-1]))
        self.classifier = nn.Conv2d(width, num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                _initialise(module)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x, levels = image, []
        for level, (convolutions, dropout) in enumerate(zip(self.down, self.dropouts, strict=True)):
            x = dropout(convolutions(self.pool(x) if level else x))
            levels.append(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(levels[:-1]), strict=True):
            height, width = skip.shape[-2:]
            x = merge(torch.cat([skip, up(x)[..., :height, :width]], dim=1))
        return {"out": self.classifier(x)}


class EncoderUNet(nn.Module):
    """A backbone, and a decoder that comes back to the image's size in five steps.

    Args:
        backbone: Maps images to feature maps of strides 4, 8, 16 and 32, and of stride 2 before them where it has one.
        num_classes: Number of classes C.

    `forward` maps images ``(N, 3, H, W)`` to ``{"out": (N, C, H, W)}``.
    """

    def __init__(self, backbone: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        deepest, *skips = reversed(backbone.channels)
        skips += [0] * (len(DECODER) - len(skips))
        self.decoder = nn.ModuleList(
            nn.Sequential(ConvNormAct(before + skip, after), ConvNormAct(after, after))
            for before, skip, after in zip([deepest, *DECODER[:-1]], skips, DECODER, strict=True)
        )
        self.classifier = nn.Conv2d(DECODER[-1], num_classes, 3, padding=1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x, *skips = reversed(self.backbone(image))
        sizes = [skip.shape[-2:] for skip in skips]
        # Steps that have no feature map to join: to half the image's size, where no map has stride 2, and to its own.
        if len(sizes) < len(self.decoder) - 1:
            sizes.append(strided_size(image, 2))
        sizes.append(image.shape[-2:])
        for index, (convolutions, size) in enumerate(zip(self.decoder, sizes, strict=True)):
            x = F.interpolate(x, size=size, mode="nearest")
            x = convolutions(torch.cat([x, skips[index]], dim=1) if index < len(skips) else x)
        return {"out": self.classifier(x)}


def _two_convolutions(in_channels: int, out_channels: int, norm: bool) -> nn.Sequential:
    """Section 2: "two 3x3 convolutions [...], each followed by a rectified linear unit"."""
    if norm:
        return nn.Sequential(ConvNormAct(in_channels, out_channels), ConvNormAct(out_channels, out_channels))
    convolutions = (nn.Conv2d(before, out_channels, 3, padding=1) for before in (in_channels, out_channels))
    return nn.Sequential(*(nn.Sequential(convolution, nn.ReLU()) for convolution in convolutions))


def _initialise(conv: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """Section 3: "a Gaussian distribution with a standard deviation of sqrt(2/N), where N denotes the number of
    incoming nodes of one neuron", which for an up-convolution of stride 2 are one pixel's channels.
    """
    incoming = conv.in_channels * (conv.weight[0, 0].numel() if isinstance(conv, nn.Conv2d) else 1)
    nn.init.normal_(conv.weight, std=(2 / incoming) ** 0.5)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def unet(
    num_classes: int,
    *,
    backbone: Literal["unet", backbones.PyramidName] = "unet",
    stem: backbones.Stem = "7x7",
    width: int | None = None,
    norm: bool | None = None,
    dropout: float | None = None,
    pretrained: bool = False,
    weights: str | None = None,
) -> nn.Module:
    """U-Net: a decoder that joins each level of its encoder, at the image's full resolution.

    Args:
        num_classes: Number of classes.
        backbone: Encoder: ``unet`` is the paper's own, trained from scratch.
        stem: First layers of a ResNet. torchvision's ImageNet weights fit ``7x7`` only.
        width: Feature channels of the first level of ``unet``, by default 64; each downsampling doubles them.
        norm: Whether the 3x3 convolutions of ``unet`` are normalised, as they are by default; the paper's are not.
        dropout: Probability of a value's being dropped behind the two deepest levels of ``unet``, by default 0.5.
        pretrained: Start from torchvision's ImageNet weights, downloaded once; there are none for ``unet``.
        weights: A local file to start from instead: a state dict of the whole model or of the backbone.

    Raises:
        ConfigError: There is a stem given for something else than a ResNet, or an option of ``unet`` for another
            backbone; or an option is out of its range.
        WeightsError: The weights cannot be had, or do not fit.
    """
    own: dict[str, Any] = {"width": width, "norm": norm, "dropout": dropout}
    given = {name: value for name, value in own.items() if value is not None}
    if width is not None and width < 1:
        raise ConfigError(f"model.width: {width} is not a number of channels, 1 or greater.")
    if dropout is not None and not 0 <= dropout < 1:
        raise ConfigError(f"model.dropout: {dropout:g} is not a probability below 1.")
    if backbone == "unet":
        if stem != "7x7":
            raise ConfigError(f"model.stem: U-Net's own encoder has no {stem} stem.", "Leave it out, or take a ResNet.")
        model: nn.Module = UNet(num_classes, **given)
    else:
        if given:
            raise ConfigError(
                f"{listing(f'model.{name}' for name in given)}: only U-Net's own encoder has this, not {backbone}.",
                "Leave it out, or take the backbone unet.",
            )
        model = EncoderUNet(backbones.create(backbone, stem=stem, stride2=True), num_classes)
    return initialise(model, weights=weights, pretrained=pretrained)
