"""Bilinear resizing, the same everywhere: pixel centres are aligned, not corners."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

__all__ = ["resize"]


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resizes ``(N, C, h, w)`` to ``(N, C, *size)``."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
