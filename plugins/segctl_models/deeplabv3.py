"""DeepLabv3: Chen, Papandreou, Schroff and Adam, "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017,
https://arxiv.org/abs/1706.05587. With the default options, state dicts of torchvision's ``deeplabv3_resnet50`` and
``deeplabv3_resnet101`` fit; the 3x3 convolution behind the pyramid and the auxiliary head are torchvision's, not the
paper's.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from .backbones import resnet
from .backbones.weights import initialise
from .layers.aspp import ASPP
from .layers.heads import FCNHead
from .layers.segmenter import Segmenter

__all__ = ["DeepLabHead", "deeplabv3"]

RATES = {16: (6, 12, 18), 8: (12, 24, 36)}  # section 3.3: "the rates are doubled when output_stride = 8"


class DeepLabHead(nn.Sequential):
    """The pyramid, a 3x3 convolution and the classifier: ``(N, in, h, w)`` to logits ``(N, num_classes, h, w)``."""

    def __init__(self, in_channels: int, num_classes: int, *, output_stride: int) -> None:
        super().__init__(
            ASPP(in_channels, RATES[output_stride]),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(),
            nn.Conv2d(256, num_classes, 1),
        )


def deeplabv3(
    num_classes: int,
    *,
    backbone: Literal["resnet50", "resnet101", "resnet152"] = "resnet50",
    output_stride: Literal[8, 16] = 8,
    multi_grid: bool = False,
    aux: bool = True,
    pretrained: bool = False,
    weights: str | None = None,
) -> nn.Module:
    """DeepLabv3: atrous spatial pyramid pooling on a dilated ResNet.

    Args:
        num_classes: Number of classes.
        backbone: Feature extractor.
        output_stride: Size of the image over that of the last feature map; 16 needs less memory and time. The rates of
            the pyramid follow.
        multi_grid: Multiply the dilations of the last stage's three blocks by 1, 2 and 4 (the paper's section 3.1).
        aux: Train an auxiliary head on the third stage as well.
        pretrained: Start from torchvision's ImageNet weights, downloaded once.
        weights: A local file to start from instead: a state dict of the whole model or of the backbone.

    Raises:
        WeightsError: The weights cannot be had, or do not fit.
    """
    features = resnet.ResNet(backbone, output_stride=output_stride, multi_grid=(1, 2, 4) if multi_grid else None)
    model = Segmenter(
        features,
        DeepLabHead(features.channels[-1], num_classes, output_stride=output_stride),
        FCNHead(features.channels[-2], num_classes) if aux else None,
    )
    return initialise(model, weights=weights, pretrained=pretrained)
