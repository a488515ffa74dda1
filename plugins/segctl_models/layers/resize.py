"""Sizes of feature maps, and bilinear resizing, the same everywhere: pixel centres are aligned, not corners."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["resize", "resize_and_concat", "strided_size"]


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resizes ``(N, C, h, w)`` to ``(N, C, *size)``."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def strided_size(x: Tensor, stride: int) -> tuple[int, int]:
    """Height and width of `x` over `stride`, rounded up: the size of a map of that stride."""
    height, width = x.shape[-2:]
    return (height + stride - 1) // stride, (width + stride - 1) // stride


def resize_and_concat(features: Sequence[Tensor]) -> Tensor:
    """Concatenates feature maps ``(N, Ci, hi, wi)`` at the size of the first: ``(N, sum of Ci, h0, w0)``."""
    first, *others = features
    return torch.cat([first, *(resize(x, first.shape[-2:]) for x in others)], dim=1)
