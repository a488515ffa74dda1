"""DeepLabv3: Chen, Papandreou, Schroff and Adam, "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017,
https://arxiv.org/abs/1706.05587.

The 3x3 convolution behind the pyramid and the auxiliary head are torchvision's, not the paper's: state dicts of its
``deeplabv3_resnet50`` and ``deeplabv3_resnet101`` fit with the default options, that of its
``deeplabv3_mobilenet_v3_large``, whose auxiliary head reads the map of stride 8, with ``output_stride=16`` and
``rates=(12, 24, 36)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from torch import nn

from segctl.errors import ConfigError

from . import backbones
from .backbones import mobilenet
from .backbones.weights import initialise
from .layers.aspp import ASPP, RATES
from .layers.conv import ConvNormAct
from .layers.heads import FCNHead
from .layers.segmenter import Segmenter

__all__ = ["DeepLabHead", "deeplabv3"]


class DeepLabHead(nn.Sequential):
    """The pyramid, a 3x3 convolution and the classifier: ``(N, in, h, w)`` to logits ``(N, num_classes, h, w)``."""

    def __init__(self, in_channels: int, num_classes: int, *, rates: Sequence[int]) -> None:
        super().__init__(
            ASPP(in_channels, rates),
            *ConvNormAct(256, 256, 3),
            nn.Conv2d(256, num_classes, 1),
        )


def deeplabv3(
    num_classes: int,
    *,
    backbone: backbones.DilatedName = "resnet50",
    output_stride: Literal[8, 16] = 8,
    rates: tuple[int, int, int] | None = None,
    multi_grid: bool = False,
    stem: backbones.Stem = "7x7",
    aux: bool = True,
    pretrained: bool = False,
    weights: str | None = None,
) -> nn.Module:
    """DeepLabv3: atrous spatial pyramid pooling on a dilated backbone.

    Args:
        num_classes: Number of classes.
        backbone: Feature extractor.
        output_stride: Size of the image over that of the last feature map; 16 needs less memory and time. The rates of
            the pyramid follow.
        rates: Dilations of the pyramid's convolutions; by default 12, 24 and 36, or half of these at output stride 16.
        multi_grid: Multiply the dilations of the last stage's three blocks by 1, 2 and 4 (the paper's section 3.1), or
            of xception65 those of its last block's three convolutions; for ResNets of 34 layers or more and xception65.
        stem: First layers of a ResNet. torchvision's ImageNet weights fit ``7x7`` only.
        aux: Train an auxiliary head on the third stage as well (MobileNetV3: on the map of stride 8).
        pretrained: Start from torchvision's ImageNet weights, downloaded once.
        weights: A local file to start from instead: a state dict of the whole model or of the backbone.

    Raises:
        ConfigError: A stem or a multi-grid is given for a backbone that cannot have it, or a rate is below 1.
        WeightsError: The weights cannot be had, or do not fit.
    """
    for rate in rates or ():
        if rate < 1:
            raise ConfigError(f"model.rates: {rate} is not a dilation, 1 or greater.")
    as_torchvision = backbone in get_args(mobilenet.MobileNetV3Name)
    features = backbones.create(
        backbone,
        output_stride=output_stride,
        multi_grid=(1, 2, 4) if multi_grid else None,
        stem=stem,
        taps="strided" if as_torchvision else "last",
    )
    aux_feature = -3 if as_torchvision else -2
    model = Segmenter(
        features,
        DeepLabHead(features.channels[-1], num_classes, rates=rates or RATES[output_stride]),
        FCNHead(features.channels[aux_feature], num_classes) if aux else None,
        aux_feature=aux_feature,
    )
    return initialise(model, weights=weights, pretrained=pretrained)
