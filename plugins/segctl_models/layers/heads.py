"""Heads: from a feature map to logits of the same height and width."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from .conv import ConvNormAct

__all__ = ["ConvHead", "FCNHead"]


class FCNHead(nn.Sequential):
    """A 3x3 convolution to a quarter of the channels, then a 1x1 classifier. Parameters are named as in torchvision.

    Maps ``(N, in, h, w)`` to logits ``(N, num_classes, h, w)``.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        inner = in_channels // 4
        super().__init__(
            *ConvNormAct(in_channels, inner, 3),
            nn.Dropout(0.1),
            nn.Conv2d(inner, num_classes, 1),
        )


class ConvHead(nn.Sequential):
    """A 3x3 convolution, dropout of whole feature maps, and a 1x1 classifier, as in many authors' releases.

    Args:
        in_channels: Channels of the feature map.
        inner: Channels between the two convolutions.
        num_classes: Number of classes.
        dropout: Probability of a feature map's being dropped.
        bias: Whether the 3x3 convolution has a bias.
        act: The activation's class, or None for none.

    Maps ``(N, in, h, w)`` to logits ``(N, num_classes, h, w)``.
    """

    def __init__(
        self,
        in_channels: int,
        inner: int,
        num_classes: int,
        *,
        dropout: float = 0.1,
        bias: bool = False,
        act: Callable[[], nn.Module] | None = nn.ReLU,
    ) -> None:
        super().__init__(
            ConvNormAct(in_channels, inner, 3, bias=bias, act=act),
            nn.Dropout2d(dropout),
            nn.Conv2d(inner, num_classes, 1),
        )
