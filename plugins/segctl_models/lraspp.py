"""LR-ASPP: Howard et al., "Searching for MobileNetV3", 2019, https://arxiv.org/abs/1905.02244, section 6.4 and Figure
10: "Lite Reduced Atrous Spatial Pyramid Pooling", a head for phones.

State dicts of torchvision's ``lraspp_mobilenet_v3_large`` fit and give its logits. Three choices are torchvision's: the
attention averages the whole map, not windows of 49x49 with a stride, so that any size passes; the skip of stride 8 is
the feature map of the strided block, not of the last one of that stride; MobileNetV3 is not narrowed in its last stage.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from segctl.errors import ConfigError

from . import backbones
from .backbones import mobilenet
from .backbones.weights import initialise
from .layers.conv import ConvNormAct
from .layers.resize import resize

__all__ = ["LRASPP", "LRASPPHead", "lraspp"]


class LRASPPHead(nn.Module):
    """Deep features, weighted by a squeeze-and-excite-like attention, and finer ones, scored separately and added.

    Args:
        low_channels: Channels of the finer feature map.
        high_channels: Channels of the deep feature map.
        num_classes: Number of classes C.
        channels: Channels between the deep features and their scores.

    Maps ``(N, low_channels, h, w)`` and ``(N, high_channels, h', w')`` to logits ``(N, C, h, w)``. Parameters are named
    as in torchvision's ``LRASPPHead``.
    """

    def __init__(self, low_channels: int, high_channels: int, num_classes: int, *, channels: int) -> None:
        super().__init__()
        self.cbr = ConvNormAct(high_channels, channels, 1)
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(high_channels, channels, 1, bias=False), nn.Sigmoid()
        )
        self.low_classifier = nn.Conv2d(low_channels, num_classes, 1)
        self.high_classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        x = resize(self.cbr(high) * self.scale(high), low.shape[-2:])
        return self.low_classifier(low) + self.high_classifier(x)


class LRASPP(nn.Module):
    """Joins a backbone and the head, which reads the maps of stride 8 and of the deepest layer.

    `forward` maps images ``(N, 3, H, W)`` to ``{"out": (N, C, H, W)}``.
    """

    def __init__(self, backbone: nn.Module, num_classes: int, *, channels: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = LRASPPHead(backbone.channels[-3], backbone.channels[-1], num_classes, channels=channels)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        features = self.backbone(image)
        return {"out": resize(self.classifier(features[-3], features[-1]), image.shape[-2:])}


def lraspp(
    num_classes: int,
    *,
    backbone: Literal[mobilenet.MobileNetV3Name, mobilenet.MobileNetV2Name] = "mobilenet_v3_large",
    output_stride: Literal[8, 16, 32] = 16,
    channels: int = 128,
    pretrained: bool = False,
    weights: str | None = None,
) -> nn.Module:
    """LR-ASPP: a small, fast head on a MobileNet (3.2 million parameters in all).

    Args:
        num_classes: Number of classes.
        backbone: Feature extractor.
        output_stride: Size of the image over that of the last feature map; 32 is fastest.
        channels: Channels of the head.
        pretrained: Start from torchvision's ImageNet weights, downloaded once.
        weights: A local file to start from instead: a state dict of the whole model or of the backbone.

    Raises:
        ConfigError: An option is out of its range.
        WeightsError: The weights cannot be had, or do not fit.
    """
    if channels < 1:
        raise ConfigError(f"model.channels: {channels} is not a number of channels, 1 or greater.")
    features = backbones.create(backbone, output_stride=output_stride, taps="strided")
    return initialise(LRASPP(features, num_classes, channels=channels), weights=weights, pretrained=pretrained)
