"""FCN on a dilated backbone, as in torchvision.

Long, Shelhamer and Darrell, "Fully Convolutional Networks for Semantic Segmentation", 2015,
https://arxiv.org/abs/1411.4038, on the features of Yu, Koltun and Funkhouser, "Dilated Residual Networks", 2017,
https://arxiv.org/abs/1705.09914. The first paper's own FCN-32s, 16s and 8s on VGG16 are in ``fcn_vgg.py``.

State dicts of torchvision's ``fcn_resnet50`` and ``fcn_resnet101`` fit.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from . import backbones
from .backbones.weights import initialise
from .layers.heads import FCNHead
from .layers.segmenter import Segmenter

__all__ = ["fcn"]


def fcn(
    num_classes: int,
    *,
    backbone: backbones.DilatedName = "resnet50",
    output_stride: Literal[8, 16, 32] = 8,
    stem: backbones.Stem = "7x7",
    aux: bool = True,
    pretrained: bool = False,
    weights: str | None = None,
) -> nn.Module:
    """FCN with a dilated backbone, as in torchvision.

    Args:
        num_classes: Number of classes.
        backbone: Feature extractor.
        output_stride: Size of the image over that of the last feature map; 16 and 32 need less memory and time than 8.
        stem: First layers of a ResNet. torchvision's ImageNet weights fit ``7x7`` only.
        aux: Train an auxiliary head on the third stage as well.
        pretrained: Start from torchvision's ImageNet weights, downloaded once.
        weights: A local file to start from instead: a state dict of the whole model or of the backbone.

    Raises:
        ConfigError: There is a stem given for something else than a ResNet.
        WeightsError: The weights cannot be had, or do not fit.
    """
    features = backbones.create(backbone, output_stride=output_stride, stem=stem)
    model = Segmenter(
        features,
        FCNHead(features.channels[-1], num_classes),
        FCNHead(features.channels[-2], num_classes) if aux else None,
    )
    return initialise(model, weights=weights, pretrained=pretrained)
