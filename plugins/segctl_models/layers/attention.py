"""Dot-product attention among the positions of feature maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["attend", "attend_within_regions"]


def attend(query: Tensor, key: Tensor, value: Tensor, *, scale: float) -> Tensor:
    """The values of all positions, weighted for each position by softmax(scale * query . key).

    On a GPU the h w by h w weights are never held in memory.

    Args:
        query: ``(N, K, h, w)``.
        key: ``(N, K, h, w)``.
        value: ``(N, V, h, w)``.
        scale: Factor on the products.

    Returns:
        ``(N, V, h, w)``.
    """
    q, k, v = (x.flatten(2).mT[:, None] for x in (query, key, value))
    context = F.scaled_dot_product_attention(q, k, v, scale=scale)
    return context[:, 0].mT.unflatten(2, value.shape[-2:])


def attend_within_regions(query: Tensor, key: Tensor, value: Tensor, regions: int, *, scale: float) -> Tensor:
    """As `attend`, but each position attends only to those of its own region.

    A side is divided into `regions` regions of ceil(side / regions) positions, of which the last has fewer where that
    does not come out even, and further ones none.

    Args:
        query: ``(N, K, h, w)``.
        key: ``(N, K, h, w)``.
        value: ``(N, V, h, w)``.
        regions: Regions per side.
        scale: Factor on the products.

    Returns:
        ``(N, V, h, w)``.
    """
    q, k, v = (_split(x, regions) for x in (query, key, value))
    real = _split(torch.ones_like(query[:1, :1], dtype=torch.bool), regions)[..., 0]
    # In a region that is all padding there is nothing to attend to; what it gives is cut off, but must not be NaN.
    mask = real | ~real.any(dim=-1, keepdim=True)
    context = F.scaled_dot_product_attention(q, k, v, mask[:, :, None], scale=scale)
    return _join(context, regions, value.shape[-2:])


def _split(x: Tensor, regions: int) -> Tensor:
    """``(N, C, h, w)``, padded to a multiple of `regions`, to ``(N, regions * regions, positions of each, C)``."""
    n, channels, height, width = x.shape
    rows, columns = _region(height, regions), _region(width, regions)
    x = F.pad(x, (0, regions * columns - width, 0, regions * rows - height))
    x = x.reshape(n, channels, regions, rows, regions, columns).permute(0, 2, 4, 3, 5, 1)
    return x.reshape(n, regions * regions, rows * columns, channels)


def _join(x: Tensor, regions: int, size: Sequence[int]) -> Tensor:
    """The inverse of `_split`: ``(N, regions * regions, positions of each, C)`` to ``(N, C, *size)``."""
    n, channels = x.shape[0], x.shape[-1]
    height, width = size
    rows, columns = _region(height, regions), _region(width, regions)
    x = x.reshape(n, regions, regions, rows, columns, channels).permute(0, 5, 1, 3, 2, 4)
    x = x.reshape(n, channels, regions * rows, regions * columns)
    # Not sliced: the layout of a slice depends on whether anything is cut off, on which an exported graph would insist.
    x = x.index_select(2, torch.arange(height, device=x.device))
    return x.index_select(3, torch.arange(width, device=x.device))


def _region(side: int, regions: int) -> int:
    return (side + regions - 1) // regions
