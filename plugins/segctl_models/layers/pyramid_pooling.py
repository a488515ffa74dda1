"""Pyramid pooling: Zhao, Shi, Qi, Wang and Jia, "Pyramid Scene Parsing Network", 2017,
https://arxiv.org/abs/1612.01105, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .conv import ConvNormAct
from .resize import resize

__all__ = ["BINS", "PyramidPooling", "pool_to_grid"]

BINS = (1, 2, 3, 6)


class PyramidPooling(nn.Module):
    """The feature map beside its averages over grids of several sizes, each projected and resized to the map's size.

    Args:
        in_channels: Channels of the feature map.
        out_channels: Channels of each projection.
        bins: Cells per side of each grid; 1 is the average of the whole image.

    Attributes:
        channels: Channels of the result, ``in_channels + len(bins) * out_channels``.

    Maps ``(N, in, h, w)`` to ``(N, channels, h, w)``: the map itself, then the projections in the order of `bins`. A
    batch of one image trains too.
    """

    def __init__(self, in_channels: int, out_channels: int, bins: Sequence[int] = BINS) -> None:
        super().__init__()
        self.channels = in_channels + len(bins) * out_channels
        self.bins = tuple(bins)
        self.stages = nn.ModuleList(ConvNormAct(in_channels, out_channels, 1) for _ in bins)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        pooled = [stage(pool_to_grid(x, bins)) for bins, stage in zip(self.bins, self.stages, strict=True)]
        return torch.cat([x, *(resize(context, size) for context in pooled)], dim=1)


def pool_to_grid(x: Tensor, bins: int) -> Tensor:
    """Averages ``(N, C, h, w)`` over a grid of `bins` by `bins` cells: ``(N, C, bins, bins)``.

    The cells are those of `torch.nn.functional.adaptive_avg_pool2d`, which overlap by a row or column where a side is
    no multiple of `bins`. That function has no deterministic gradient on a GPU, and no counterpart in ONNX for images
    of any size. A product with the share of each position in each cell has both.
    """
    if bins == 1:
        return x.mean(dim=(2, 3), keepdim=True)
    rows, columns = (_shares(size, bins, x) for size in x.shape[-2:])
    shares = (rows[:, None, :, None] * columns[:, None, :]).flatten(2).flatten(0, 1)
    return (x.flatten(2) @ shares).unflatten(2, (bins, bins))


def _shares(size: int, bins: int, like: Tensor) -> Tensor:
    """The share of each of `size` positions in the average of each cell, ``(size, bins)``.

    Cell i reaches from floor(i * size / bins) up to, but not including, ceil((i + 1) * size / bins).
    """
    position = torch.arange(size, device=like.device)[:, None]
    cell = torch.arange(bins, device=like.device)
    begin = cell * size // bins
    end = ((cell + 1) * size + bins - 1) // bins
    return ((position >= begin) & (position < end)).to(like.dtype) / (end - begin)
