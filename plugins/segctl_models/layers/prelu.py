"""Batch normalisation with eps 1e-3 and a PReLU of one weight per channel: the unit of ENet, ESPNet and CGNet."""

from __future__ import annotations

from functools import partial

from torch import nn

from .conv import ConvNormAct

__all__ = ["conv_norm_prelu", "norm_prelu"]

EPS = 1e-3  # in the code of the authors of all three


def norm_prelu(channels: int, *, eps: float = EPS) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels, eps=eps), nn.PReLU(channels))


def conv_norm_prelu(
    in_channels: int, out_channels: int, kernel_size: int = 3, *, stride: int = 1, groups: int = 1, eps: float = EPS
) -> ConvNormAct:
    """A convolution before it; see `ConvNormAct`."""
    return ConvNormAct(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        groups=groups,
        eps=eps,
        act=partial(nn.PReLU, out_channels),
    )
