"""Dot-product attention among the positions of feature maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["attend", "attend_within_regions", "query_key_value"]


def query_key_value(channels: int) -> tuple[nn.Conv2d, nn.Conv2d, nn.Conv2d]:
    """DANet's three projections of a feature map, which CCNet has as well: an eighth of the channels is compared."""
    inner = channels // 8
    return nn.Conv2d(channels, inner, 1), nn.Conv2d(channels, inner, 1), nn.Conv2d(channels, channels, 1)


def attend(query: Tensor, key: Tensor, value: Tensor, *, scale: float) -> Tensor:
    """All values, weighted for each position of the query by softmax(scale * query . key).

    On a GPU the weights, one for each position and value, are never held in memory.

    Args:
        query: ``(N, K, h, w)``.
        key: ``(N, K, h', w')``.
        value: ``(N, V, h', w')``.
        scale: Factor on the products.

    Returns:
        ``(N, V, h, w)``.
    """
    q, k, v = (x.flatten(2).mT[:, None] for x in (query, key, value))
    context = F.scaled_dot_product_attention(q, k, v, scale=scale)
    return context[:, 0].mT.unflatten(2, query.shape[-2:])


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
    members, real, place = _regions(*value.shape[-2:], regions, value.device)
    q, k, v = (
        x.flatten(2).mT.index_select(1, members.flatten()).unflatten(1, members.shape) for x in (query, key, value)
    )
    # In a region without positions there is nothing to attend to; what it gives is not used, but must not be NaN.
    mask = real | ~real.any(dim=1, keepdim=True)
    context = F.scaled_dot_product_attention(q, k, v, mask[:, None], scale=scale)
    return context.flatten(1, 2).index_select(1, place).mT.unflatten(2, value.shape[-2:])


def _regions(height: int, width: int, regions: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Which positions, counted row by row, form each region.

    Indices instead of padding and slicing, because an exported graph would then insist on whether there is padding.

    Returns:
        The members of each region, ``(regions * regions, length)``; whether each is one, as regions of fewer positions
        are filled up with others; and where in all that each position is, ``(height * width,)``.
    """
    rows, columns = (height + regions - 1) // regions, (width + regions - 1) // regions
    region = torch.arange(regions * regions, device=device)[:, None]
    member = torch.arange(rows * columns, device=device)
    y = region // regions * rows + member // columns
    x = region % regions * columns + member % columns
    members = y.clamp(max=height - 1) * width + x.clamp(max=width - 1)
    position = torch.arange(height * width, device=device)
    y_of, x_of = position // width, position % width
    place = (y_of // rows * regions + x_of // columns) * (rows * columns) + y_of % rows * columns + x_of % columns
    return members, (y < height) & (x < width), place
