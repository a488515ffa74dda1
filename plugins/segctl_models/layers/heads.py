"""Heads: from a feature map to logits of the same height and width."""

from __future__ import annotations

from torch import nn

__all__ = ["FCNHead"]


class FCNHead(nn.Sequential):
    """A 3x3 convolution to a quarter of the channels, then a 1x1 classifier. Parameters are named as in torchvision.

    Maps ``(N, in, h, w)`` to logits ``(N, num_classes, h, w)``.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        inner = in_channels // 4
        super().__init__(
            nn.Conv2d(in_channels, inner, 3, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(inner, num_classes, 1),
        )
