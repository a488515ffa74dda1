"""PSANet: Zhao, Zhang, Liu, Shi, Loy, Lin and Jia, "PSANet: Point-wise Spatial Attention Network for Scene Parsing",
2018, https://hszhao.github.io/papers/eccv18_psanet.pdf, section 3.

Where the paper leaves a choice, it is that of the authors' release (https://github.com/hszhao/semseg): a stem of three
3x3 convolutions, all blocks of a dilated stage dilated alike, attention on maps shrunk by 2 and normalised by softmax,
dropout of whole feature maps. Unlike there, pixel centres are aligned when a map is resized, and an image may have any
size:

A position's mask holds a value for each offset up to a fixed reach. For a crop of 465 pixels, 30 positions at stride
16, the release's 59 x 59 mask reaches 29 positions in each direction: from everywhere to everywhere. On smaller images
the mask's margin is not needed. On larger ones, which the release predicts crop by crop, a position attends to those
within its reach: a window of twice the training crop around it. (Features resized to the mask's grid would instead show
the network objects of another size and shape than it was trained on.)
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segctl.errors import ConfigError

from . import backbones
from .backbones.deep_stem import create_deep_stem
from .backbones.weights import initialise
from .layers.conv import ConvNormAct
from .layers.heads import ConvHead
from .layers.resize import resize, strided_size
from .layers.segmenter import Segmenter

__all__ = ["PSAHead", "PointwiseSpatialAttention", "psanet", "spread"]

SHRINK = 2


class PointwiseSpatialAttention(nn.Module):
    """Context from two branches, beside the features: what each position collects, and what it is distributed.

    Args:
        in_channels: Channels of the features.
        channels: Channels of each branch.
        mask: Side of the mask that each position predicts, odd.

    `forward` maps ``(N, in, h, w)`` to ``(N, 2 * in, h, w)``: the features, then the context.
    """

    def __init__(self, in_channels: int, channels: int, *, mask: int) -> None:
        super().__init__()
        self.collect = _Branch(in_channels, channels, mask)
        self.distribute = _Branch(in_channels, channels, mask)
        self.project = ConvNormAct(2 * channels, in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        features, scores = self.collect(x)
        # Position p decides from where it takes: its weights sum to 1 over the others.
        collected = features.flatten(2) @ scores.softmax(dim=1).to(features.dtype)
        shrunk = features.shape[-2:]
        features, scores = self.distribute(x)
        # Position p decides to where it gives: where it gives to, the weights of all that give sum to 1.
        distributed = features.flatten(2) @ scores.softmax(dim=2).to(features.dtype).mT
        context = self.project(torch.cat([collected, distributed], dim=1).unflatten(2, shrunk))
        return torch.cat([x, resize(context, x.shape[-2:])], dim=1)


class _Branch(nn.Module):
    """Features shrunk by 2, and for each pair of their positions the score that one predicts for the other.

    `forward` maps ``(N, in, h, w)`` to ``(N, channels, h/2, w/2)``, rounded up, and `spread` scores.
    """

    def __init__(self, in_channels: int, channels: int, mask: int) -> None:
        super().__init__()
        self.mask = mask
        self.reduce = ConvNormAct(in_channels, channels, 1)
        self.attention = nn.Sequential(
            ConvNormAct(channels, channels, 1), nn.Conv2d(channels, mask * mask, 1, bias=False)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = resize(self.reduce(x), strided_size(x, SHRINK))
        masks = self.attention(features).unflatten(1, (self.mask, self.mask))
        return features, spread(masks)


def spread(masks: Tensor) -> Tensor:
    """The over-completed masks, which are by offset, by position.

    Args:
        masks: ``(N, m, m, h, w)``: what position (y, x) predicts for (y + i - r, x + j - r) is at ``[n, i, j, y, x]``,
            r being (m - 1) / 2.

    Returns:
        ``(N, h * w, h * w)``: what position p predicts for q is at ``[n, q, p]``; minus infinity where q is out of
        reach.
    """
    n, m, _, height, width = masks.shape
    masks = F.pad(masks, (0, 0, 0, 0, 0, 1, 0, 1), value=-torch.inf)  # one more entry, for all that is out of reach
    rows = _entries(height, m, masks.device)[:, None, :, None].expand(n, -1, m + 1, -1, width)
    columns = _entries(width, m, masks.device)[:, None, :].expand(n, height, -1, height, -1)
    return masks.gather(1, rows).gather(2, columns).flatten(3).flatten(1, 2)


def _entries(size: int, m: int, device: torch.device) -> Tensor:
    """Where in a mask's side position p holds what it predicts for q, at ``[q, p]``: ``(size, size)``."""
    position = torch.arange(size, device=device)
    entry = position[:, None] - position + m // 2
    return torch.where((entry >= 0) & (entry < m), entry, m)


class PSAHead(nn.Sequential):
    """Attention, a 3x3 convolution and the classifier: ``(N, in, h, w)`` to logits ``(N, num_classes, h, w)``."""

    def __init__(self, in_channels: int, num_classes: int, *, mask: int) -> None:
        super().__init__(
            PointwiseSpatialAttention(in_channels, in_channels // 4, mask=mask),
            ConvHead(2 * in_channels, in_channels // 4, num_classes),
        )


def psanet(
    num_classes: int,
    *,
    backbone: backbones.DilatedName = "resnet50",
    output_stride: Literal[8, 16] = 8,
    stem: backbones.Stem | None = None,
    mask: int = 59,
    aux: bool = True,
    pretrained: bool = False,
    weights: str | None = None,
) -> nn.Module:
    """PSANet: attention that each position predicts for all others by where they are, in both directions.

    Args:
        num_classes: Number of classes.
        backbone: Feature extractor.
        output_stride: Size of the image over that of the last feature map; 16 needs less memory and time.
        stem: First layers of a ResNet, by default ``v1s`` as in the authors' release. torchvision's ImageNet weights
            fit ``7x7`` only.
        mask: Side of the mask that each position predicts, odd. It reaches (mask - 1) / 2 positions at half the size
            of the last feature map: all others in a crop of 8 * (mask + 1) pixels or less, at an output stride of 8.
            The release has 59 for crops of 465 pixels, and 89 for 705.
        aux: Train an auxiliary head on the third stage as well.
        pretrained: Start from torchvision's ImageNet weights, downloaded once; a ResNet needs the stem ``7x7``.
        weights: A local file to start from instead: a state dict of the whole model or of the backbone.

    Raises:
        ConfigError: The mask is not odd, or there is a stem given for something else than a ResNet.
        WeightsError: The weights cannot be had, or do not fit.
    """
    if mask < 1 or mask % 2 == 0:
        raise ConfigError(f"model.mask: {mask} is not an odd number, 1 or greater.")
    features = create_deep_stem(backbone, output_stride=output_stride, stem=stem, contracted=False)
    model = Segmenter(
        features,
        PSAHead(features.channels[-1], num_classes, mask=mask),
        ConvHead(features.channels[-2], features.channels[-2] // 4, num_classes) if aux else None,
    )
    return initialise(model, weights=weights, pretrained=pretrained)
