"""Dot-product attention among the positions of feature maps."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["attend"]


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
