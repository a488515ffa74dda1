"""PSPNet: Zhao, Shi, Qi, Wang and Jia, "Pyramid Scene Parsing Network", 2017, https://arxiv.org/abs/1612.01105: the
pyramid pooling module of section 3.2, and the auxiliary loss of section 3.3 on a dilated ResNet.

Where the paper leaves a choice, it is that of the authors' release (https://github.com/hszhao/semseg): a stem of three
3x3 convolutions, all blocks of a dilated stage dilated alike, projections to a quarter of the channels, dropout of
whole feature maps. Unlike there, pixel centres are aligned when a map is resized, so that an image may have any size,
not only 8n + 1; and a batch of one image trains.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from . import backbones
from .backbones.deep_stem import create_deep_stem
from .backbones.weights import initialise
from .layers.heads import ConvHead
from .layers.pyramid_pooling import BINS, PyramidPooling
from .layers.segmenter import Segmenter

__all__ = ["PSPHead", "pspnet"]


class PSPHead(nn.Sequential):
    """Pyramid pooling, a 3x3 convolution and the classifier: ``(N, in, h, w)`` to logits ``(N, num_classes, h, w)``."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        pyramid = PyramidPooling(in_channels, in_channels // len(BINS))
        super().__init__(pyramid, ConvHead(pyramid.channels, in_channels // 4, num_classes))


def pspnet(
    num_classes: int,
    *,
    backbone: backbones.DilatedName = "resnet50",
    output_stride: Literal[8, 16] = 8,
    stem: backbones.Stem | None = None,
    aux: bool = True,
    pretrained: bool = False,
    weights: str | None = None,
) -> nn.Module:
    """PSPNet: features beside their averages over grids of 1, 2, 3 and 6 cells per side.

    Args:
        num_classes: Number of classes.
        backbone: Feature extractor.
        output_stride: Size of the image over that of the last feature map; 16 needs less memory and time.
        stem: First layers of a ResNet, by default ``v1s`` as in the authors' release. torchvision's ImageNet weights
            fit ``7x7`` only.
        aux: Train an auxiliary head on the third stage as well.
        pretrained: Start from torchvision's ImageNet weights, downloaded once; a ResNet needs the stem ``7x7``.
        weights: A local file to start from instead: a state dict of the whole model or of the backbone.

    Raises:
        ConfigError: There is a stem given for something else than a ResNet.
        WeightsError: The weights cannot be had, or do not fit.
    """
    features = create_deep_stem(backbone, output_stride=output_stride, stem=stem, contracted=False)
    model = Segmenter(
        features,
        PSPHead(features.channels[-1], num_classes),
        ConvHead(features.channels[-2], features.channels[-2] // 4, num_classes) if aux else None,
    )
    return initialise(model, weights=weights, pretrained=pretrained)
