"""Depthwise separable convolution: Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", 2017,
https://arxiv.org/abs/1610.02357; dilated in DeepLabv3+, where Chen et al. 2018, https://arxiv.org/abs/1802.02611,
section 3.1, call it atrous separable convolution.
"""

from __future__ import annotations

from torch import Tensor, nn

from .conv import depthwise
from .pooling import norm_pooled

__all__ = ["SeparableConv"]


class SeparableConv(nn.Module):
    """A 3x3 convolution of each channel by itself, then a 1x1 convolution across them, each of them normalised.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the result.
        stride: Stride of the 3x3 convolution.
        dilation: Dilation of the 3x3 convolution.
        eps: What the normalisations add to the variance.
        act: Whether a ReLU follows each of the two (DeepLab's pyramid and decoder) or neither (Xception's blocks).

    Maps ``(N, in, h, w)`` to ``(N, out, h, w)``, over the stride and rounded up. Parameters are named as in timm's
    Xception.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        eps: float = 1e-5,
        act: bool = True,
    ) -> None:
        super().__init__()
        self.conv_dw = depthwise(in_channels, stride=stride, dilation=dilation)
        self.bn_dw = nn.BatchNorm2d(in_channels, eps=eps)
        self.conv_pw = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn_pw = nn.BatchNorm2d(out_channels, eps=eps)
        self.act = nn.ReLU() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(norm_pooled(self.bn_dw, self.conv_dw(x)))
        return self.act(norm_pooled(self.bn_pw, self.conv_pw(x)))
