"""ICNet: Zhao, Qi, Shen, Shi and Jia, "ICNet for Real-Time Semantic Segmentation on High-Resolution Images", 2018,
https://arxiv.org/abs/1704.08545.

Section 3.2 gives the cascade of three resolutions, 3.3 the cascade feature fusion and the cascade label guidance, and
the part on model compression the network of half the kernels, which is the default here. Layer names below are those of
the authors' release (https://github.com/hszhao/ICNet), which settles what the paper leaves open:

- The branch of a quarter of the resolution goes on from conv3_1 of the branch of a half, shrunk once more. No layer
  runs twice.
- The pyramid's levels are added to the features as they are, and conv5_4 reduces the sum to a quarter of the channels.
- An auxiliary classifier sees the coarser features of a fusion after they are upsampled. The third classifier, at a
  quarter of the image's size, is the one whose logits are interpolated.

Here the pyramid's cells part the feature map evenly, at any size, where the release has windows made for 1025x2049
images. The stride of conv3_1 is on its 3x3 convolution, as in torchvision's ResNets, instead of on its first 1x1 one.
Features of two resolutions are joined at the size of the finer ones, so that any height and width fits.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from segctl import plugin
from segctl.errors import WeightsError

from . import backbones
from .backbones import resnet
from .backbones.weights import initialise
from .layers.conv import ConvNormAct
from .layers.pyramid_pooling import BINS, pool_to_grid
from .layers.resize import resize, strided_size

__all__ = ["CascadeFeatureFusion", "ICNet", "icnet"]


class ICNet(nn.Module):
    """The image cascade network.

    Args:
        backbone: A ResNet with output stride 8. Its layers up to conv3_1 see half the image's height and width; the
            remaining ones go on from there at half of that.
        num_classes: Number of classes C.
        aux: Whether there are classifiers of 1/16 and 1/8 of the image's size (cascade label guidance).

    `forward` gives ``{"out": (N, C, H, W)}``, in training also ``"sub4"``, the same at 1/4 of the image's size, before
    they are enlarged; and with `aux` ``"sub8"`` and ``"sub16"``, logits at 1/8 and 1/16.
    """

    def __init__(self, backbone: resnet.ResNet, num_classes: int, *, aux: bool) -> None:
        super().__init__()
        self.backbone = backbone
        conv3_1, conv5_3 = backbone.channels[1], backbone.channels[3]
        self.conv5_4 = ConvNormAct(conv5_3, conv5_3 // 4, 1)
        self.high_resolution = nn.Sequential(
            ConvNormAct(3, 32, 3, stride=2), ConvNormAct(32, 32, 3, stride=2), ConvNormAct(32, 64, 3, stride=2)
        )
        self.fuse24 = CascadeFeatureFusion(conv5_3 // 4, conv3_1, 128)
        self.fuse12 = CascadeFeatureFusion(128, 64, 128)
        self.aux_classifiers = nn.ModuleDict()
        if aux:
            self.aux_classifiers["sub16"] = nn.Conv2d(conv5_3 // 4, num_classes, 1)
            self.aux_classifiers["sub8"] = nn.Conv2d(128, num_classes, 1)
        self.classifier = nn.Conv2d(128, num_classes, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        sub1 = self.high_resolution(image)
        sub2, sub4 = self.low_resolutions(resize(image, strided_size(image, 2)))
        sub4 = self.conv5_4(_add_pyramid(sub4))

        sub24, upsampled4 = self.fuse24(sub4, sub2)
        sub12, upsampled24 = self.fuse12(sub24, sub1)
        quarter = self.classifier(resize(sub12, strided_size(image, 4)))
        outputs = {"out": resize(quarter, image.shape[-2:])}
        if self.training:
            outputs["sub4"] = quarter
        if self.training and self.aux_classifiers:
            outputs["sub8"] = self.aux_classifiers["sub8"](upsampled24)
            outputs["sub16"] = self.aux_classifiers["sub16"](upsampled4)
        return outputs

    def low_resolutions(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The features of conv3_1 of an image of half resolution, and of conv5_3 after it at a quarter."""
        net = self.backbone
        x = net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(image)))))
        conv3_1, *rest = net.layer2
        sub2 = conv3_1(x)
        x = resize(sub2, strided_size(sub2, 2))
        for block in rest:
            x = block(x)
        return sub2, net.layer4(net.layer3(x))


class CascadeFeatureFusion(nn.Module):
    """Section 3.3, Figure 3: a dilated convolution of the upsampled coarse features plus a projection of the fine ones.

    Args:
        low_channels: Channels of the features of the lower resolution.
        high_channels: Channels of those of the higher one.
        out_channels: Channels of the result.

    `forward` maps ``(N, low, h, w)`` and ``(N, high, H, W)`` to the fused ``(N, out, H, W)`` and the upsampled
    ``(N, low, H, W)``, on which the auxiliary classifier works.
    """

    def __init__(self, low_channels: int, high_channels: int, out_channels: int) -> None:
        super().__init__()
        self.low = ConvNormAct(low_channels, out_channels, 3, dilation=2, act=None)
        self.high = ConvNormAct(high_channels, out_channels, 1, act=None)

    def forward(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        upsampled = resize(low, high.shape[-2:])
        return F.relu(self.low(upsampled) + self.high(high)), upsampled


def _add_pyramid(x: Tensor) -> Tensor:
    """PSPNet's pyramid (Zhao et al. 2017) without its convolutions: the average of each cell, added to its pixels."""
    size = x.shape[-2:]
    return x + sum(resize(pool_to_grid(x, bins), size) for bins in BINS)


def _halve(backbone: resnet.ResNet) -> None:
    """Leaves half the channels of every layer but the image's three."""
    for parent in list(backbone.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Conv2d):
                setattr(parent, name, _half_convolution(layer))
            elif isinstance(layer, nn.BatchNorm2d):
                setattr(parent, name, nn.BatchNorm2d(layer.num_features // 2))
    backbone.channels = tuple(channels // 2 for channels in backbone.channels)
    backbone.imagenet = None


def _half_convolution(conv: nn.Conv2d) -> nn.Conv2d:
    half = nn.Conv2d(
        conv.in_channels if conv.in_channels == 3 else conv.in_channels // 2,
        conv.out_channels // 2,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        bias=False,
    )
    nn.init.kaiming_normal_(half.weight, mode="fan_out", nonlinearity="relu")
    return half


@plugin.model(loss="icnet")
def icnet(
    num_classes: int,
    *,
    backbone: Literal["resnet50", "resnet101", "resnet152"] = "resnet50",
    width: Literal["half", "full"] = "half",
    stem: backbones.Stem = "v1s",
    aux: bool = True,
    pretrained: bool = False,
    weights: str | None = None,
) -> nn.Module:
    """ICNet: a cascade of three resolutions, most of whose layers see the lowest.

    Args:
        num_classes: Number of classes.
        backbone: Feature extractor.
        width: ``half``: each layer of the backbone has half its channels, as in the authors' release (6.7 million
            parameters). ``full``: all of them, which ImageNet weights fit.
        stem: First layers of the backbone: ``v1s`` as in the authors' release. torchvision's ImageNet weights fit
            ``7x7`` only.
        aux: Train classifiers at 1/16 and 1/8 of the image's size as well.
        pretrained: Start from torchvision's ImageNet weights, downloaded once; needs full width and the stem ``7x7``.
        weights: A local file to start from instead: a state dict of the whole model or of the backbone.

    Raises:
        WeightsError: The weights cannot be had, or do not fit.
    """
    features = resnet.ResNet(backbone, output_stride=8, stem=stem, contracted=False)
    if width == "half":
        if pretrained and weights is None:
            raise WeightsError(
                f"There are no ImageNet weights for a {backbone} of half width.",
                "Choose `width: full` and `stem: 7x7`, or train from scratch with `pretrained: false`.",
            )
        _halve(features)
    return initialise(ICNet(features, num_classes, aux=aux), weights=weights, pretrained=pretrained)
