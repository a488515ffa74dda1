"""OCNet: Yuan and Wang, "OCNet: Object Context Network for Scene Parsing", 2018, https://arxiv.org/abs/1809.00916:
the object context pooling of section 3, alone (base-OC) and in its two pyramids (pyramid-OC, ASP-OC), as in the paper's
first versions. The last one has another attention.

Where the paper leaves a choice, it is that of the authors' release (https://github.com/openseg-group/OCNet.pytorch):
the dilated ResNet of semseg, LeakyReLU, one transformation for queries and keys, context that starts as zero, biases
before the normalisation in many places, and pyramid-OC's linear layers where the others have activations. Unlike there,

- pixel centres are aligned when a map is resized, and an odd side is rounded up when ASP-OC pools by 2;
- pyramid-OC divides a side that is no multiple of the number of regions into regions of equal size, the last of which
  is smaller, or empty on a tiny image; the release leaves the remainder to the last one;
- queries and keys, being the same, are computed, and their statistics gathered, once instead of twice.

Exported by `torch.export` with sides of any length, pyramid-OC takes images with a side of more than 48 pixels: on
smaller ones, its smallest regions are single positions, which is another graph.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import backbones
from .backbones.deep_stem import create_deep_stem
from .backbones.weights import initialise
from .layers.aspp import RATES
from .layers.attention import attend, attend_within_regions
from .layers.conv import ConvNormAct
from .layers.heads import ConvHead
from .layers.resize import resize
from .layers.segmenter import Segmenter

__all__ = ["ASPOC", "BaseOC", "ObjectContext", "PyramidOC", "ocnet"]

REGIONS = (1, 2, 3, 6)  # per side, in pyramid-OC


class ObjectContext(nn.Module):
    """Object context pooling: each position takes from the others by the similarity of their features.

    Args:
        channels: Channels C of the features.
        key_channels: Channels of the queries and keys.
        value_channels: Channels of the values.
        regions: Regions per side, among whose own positions the attention is.
        shrink: Factor by which the features are pooled (their maxima) beforehand.

    `forward` maps ``(N, C, h, w)`` to the context, of the same shape.
    """

    def __init__(
        self, channels: int, key_channels: int, value_channels: int, *, regions: int = 1, shrink: int = 1
    ) -> None:
        super().__init__()
        self.regions = regions
        self.shrink = shrink
        self.scale = key_channels**-0.5
        self.key = ConvNormAct(channels, key_channels, 1, bias=True, act=nn.LeakyReLU)  # the query as well
        self.value = nn.Conv2d(channels, value_channels, 1)
        self.project = nn.Conv2d(value_channels, channels, 1)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.max_pool2d(x, self.shrink, ceil_mode=True) if self.shrink > 1 else x
        key, value = self.key(pooled), self.value(pooled)
        if self.regions > 1:
            context = attend_within_regions(key, key, value, self.regions, scale=self.scale)
        else:
            context = attend(key, key, value, scale=self.scale)
        context = self.project(context)
        return resize(context, x.shape[-2:]) if self.shrink > 1 else context


class BaseOC(nn.Module):
    """Base-OC: the context beside the features, fused. Maps ``(N, C, h, w)`` to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.context = ObjectContext(channels, channels // 2, channels // 2)
        self.fuse = _fuse(2 * channels, channels, dropout=0.05, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.fuse(torch.cat([self.context(x), x], dim=1))


class PyramidOC(nn.Module):
    """Pyramid-OC: contexts within the image and within 2 x 2, 3 x 3 and 6 x 6 regions, beside the features, fused.

    The features are brought to as many channels as the contexts have together. Maps ``(N, C, h, w)`` to the same shape.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.contexts = nn.ModuleList(
            ObjectContext(channels, channels // 2, channels, regions=regions) for regions in REGIONS
        )
        self.expand = ConvNormAct(channels, len(REGIONS) * channels, 1, bias=True, act=nn.LeakyReLU)
        self.fuse = _fuse(2 * len(REGIONS) * channels, channels, dropout=0.05, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.fuse(torch.cat([self.expand(x), *(context(x) for context in self.contexts)], dim=1))


class ASPOC(nn.Module):
    """ASP-OC: the pyramid of DeepLabv3 with the context in the place of the image's average.

    The context is computed on features pooled by 2. Maps ``(N, C, h, w)`` to the same shape; the branches have half
    the channels. The release has an output stride of 8 only; the rates for 16 are DeepLabv3's.
    """

    def __init__(self, channels: int, *, output_stride: int) -> None:
        super().__init__()
        inner = channels // 2
        context = nn.Sequential(
            ConvNormAct(channels, inner, 3, bias=True, act=nn.LeakyReLU),
            ObjectContext(inner, inner // 2, inner, shrink=2),
            ConvNormAct(inner, inner, 1, bias=True, act=nn.LeakyReLU),
        )
        dilated = (ConvNormAct(channels, inner, 3, dilation=rate, act=nn.LeakyReLU) for rate in RATES[output_stride])
        self.branches = nn.ModuleList([context, ConvNormAct(channels, inner, 1, act=nn.LeakyReLU), *dilated])
        self.fuse = _fuse(len(self.branches) * inner, channels, dropout=0.1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fuse(torch.cat([branch(x) for branch in self.branches], dim=1))


def _fuse(in_channels: int, channels: int, *, dropout: float, bias: bool) -> nn.Sequential:
    return nn.Sequential(ConvNormAct(in_channels, channels, 1, bias=bias, act=nn.LeakyReLU), nn.Dropout2d(dropout))


def ocnet(
    num_classes: int,
    *,
    backbone: backbones.DilatedName = "resnet50",
    context: Literal["base", "pyramid", "asp"] = "base",
    output_stride: Literal[8, 16] = 8,
    stem: backbones.Stem | None = None,
    aux: bool = True,
    pretrained: bool = False,
    weights: str | None = None,
) -> nn.Module:
    """OCNet: each pixel with the context of those that look like parts of the same object.

    Args:
        num_classes: Number of classes.
        backbone: Feature extractor.
        context: ``base`` has the object context of the whole image, ``pyramid`` also of its regions, ``asp`` beside
            dilated convolutions.
        output_stride: Size of the image over that of the last feature map; 16 needs less memory and time. The rates of
            ``asp`` follow.
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
        _head(features.channels[-1], num_classes, context, output_stride),
        _aux_head(features.channels[-2], num_classes, context) if aux else None,
    )
    return initialise(model, weights=weights, pretrained=pretrained)


def _head(in_channels: int, num_classes: int, context: str, output_stride: int) -> nn.Sequential:
    channels = in_channels // 4
    contexts = {"base": BaseOC, "pyramid": PyramidOC, "asp": partial(ASPOC, output_stride=output_stride)}
    return nn.Sequential(
        ConvNormAct(in_channels, channels, 3, bias=True, act=_activation(context)),
        contexts[context](channels),
        nn.Conv2d(channels, num_classes, 1),
    )


def _aux_head(in_channels: int, num_classes: int, context: str) -> ConvHead:
    dropout = 0.1 if context == "asp" else 0.05
    return ConvHead(in_channels, in_channels // 2, num_classes, dropout=dropout, bias=True, act=_activation(context))


def _activation(context: str) -> type[nn.Module] | None:
    return None if context == "pyramid" else nn.LeakyReLU
