"""CCNet: Huang, Wang, Huang, Huang, Wei and Liu, "CCNet: Criss-Cross Attention for Semantic Segmentation", 2019,
https://arxiv.org/abs/1811.11721: the network of section 3.1, the criss-cross attention of section 3.2 and its
recurrence of section 3.3. The category consistent loss of the paper's later version is not part of it.

Where the paper leaves a choice, it is that of the authors' release (https://github.com/speedinghzl/CCNet): the dilated
ResNet of semseg, LeakyReLU in the heads, queries and keys of an eighth of the channels, dropout of whole feature maps.
Unlike there, the attention is plain PyTorch, and pixel centres are aligned when a map is resized.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from segctl.errors import ConfigError

from . import backbones
from .backbones.deep_stem import create_deep_stem
from .backbones.weights import initialise
from .layers.attention import query_key_value
from .layers.conv import ConvNormAct
from .layers.heads import ConvHead
from .layers.segmenter import Segmenter

__all__ = ["CrissCrossAttention", "RCCAHead", "ccnet"]


class RCCAHead(nn.Module):
    """Recurrent criss-cross attention beside the features it starts from, a 3x3 convolution and the classifier.

    Args:
        in_channels: Channels of the feature map.
        num_classes: Number of classes.
        recurrence: How often the attention is applied, each time with the same parameters.

    `forward` maps ``(N, in, h, w)`` to logits ``(N, num_classes, h, w)``.
    """

    def __init__(self, in_channels: int, num_classes: int, *, recurrence: int) -> None:
        super().__init__()
        inner = in_channels // 4
        self.recurrence = recurrence
        self.reduce = ConvNormAct(in_channels, inner, 3, act=nn.LeakyReLU)
        self.attention = CrissCrossAttention(inner)
        self.refine = ConvNormAct(inner, inner, 3, act=nn.LeakyReLU)
        self.classifier = ConvHead(in_channels + inner, inner, num_classes, act=nn.LeakyReLU)

    def forward(self, x: Tensor) -> Tensor:
        context = self.reduce(x)
        for _ in range(self.recurrence):
            context = self.attention(context)
        return self.classifier(torch.cat([x, self.refine(context)], dim=1))


class CrissCrossAttention(nn.Module):
    """Section 3.2: each position takes from those of its row and its column, h + w - 1 in all.

    Args:
        channels: Channels C of the features.

    `forward` maps ``(N, C, h, w)`` to the same shape.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key, self.value = query_key_value(channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * criss_cross(self.query(x), self.key(x), self.value(x)) + x


def criss_cross(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The values of each position's row and column, weighted by softmax(query . key).

    Args:
        query: ``(N, K, h, w)``.
        key: ``(N, K, h, w)``.
        value: ``(N, C, h, w)``.

    Returns:
        ``(N, C, h, w)``.
    """
    height = query.shape[2]
    column = torch.einsum("nkhw,nkiw->nhwi", query, key)
    row = torch.einsum("nkhw,nkhj->nhwj", query, key)
    # A position is in its row and in its column, and counts once: in the row.
    own = torch.eye(height, dtype=torch.bool, device=query.device)[:, None]
    energy = torch.cat([column.masked_fill(own, -torch.inf), row], dim=3)
    attention = energy.softmax(dim=3).to(value.dtype)
    of_column, of_row = attention[..., :height], attention[..., height:]
    return torch.einsum("nhwi,nciw->nchw", of_column, value) + torch.einsum("nhwj,nchj->nchw", of_row, value)


def ccnet(
    num_classes: int,
    *,
    backbone: backbones.DilatedName = "resnet50",
    output_stride: Literal[8, 16] = 8,
    stem: backbones.Stem | None = None,
    recurrence: int = 2,
    aux: bool = True,
    pretrained: bool = False,
    weights: str | None = None,
) -> nn.Module:
    """CCNet: attention along rows and columns, twice, so that each position reaches all others.

    Args:
        num_classes: Number of classes.
        backbone: Feature extractor.
        output_stride: Size of the image over that of the last feature map; 16 needs less memory and time.
        stem: First layers of a ResNet, by default ``v1s`` as in the authors' release. torchvision's ImageNet weights
            fit ``7x7`` only.
        recurrence: How often the attention is applied; 1 reaches only the own row and column.
        aux: Train an auxiliary head on the third stage as well.
        pretrained: Start from torchvision's ImageNet weights, downloaded once; a ResNet needs the stem ``7x7``.
        weights: A local file to start from instead: a state dict of the whole model or of the backbone.

    Raises:
        ConfigError: The recurrence is below 1, or there is a stem given for something else than a ResNet.
        WeightsError: The weights cannot be had, or do not fit.
    """
    if recurrence < 1:
        raise ConfigError(f"model.recurrence: {recurrence} is not 1 or greater.")
    features = create_deep_stem(backbone, output_stride=output_stride, stem=stem, contracted=False)
    inner = features.channels[-2] // 2
    model = Segmenter(
        features,
        RCCAHead(features.channels[-1], num_classes, recurrence=recurrence),
        ConvHead(features.channels[-2], inner, num_classes, bias=True, act=nn.LeakyReLU) if aux else None,
    )
    return initialise(model, weights=weights, pretrained=pretrained)
