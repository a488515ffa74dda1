"""Convolutions: with normalisation and activation, the unit that most networks consist of, and bare depthwise ones."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from .pooling import norm_pooled

__all__ = ["ConvNormAct", "depthwise"]


class ConvNormAct(nn.Sequential):
    """A convolution whose result is as large as its input (over the stride, rounded up), normalised and activated.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the result.
        kernel_size: Height and width of the kernel, odd.
        stride: Stride of the convolution.
        dilation: Dilation of the convolution.
        groups: Groups of the convolution; as many as channels make it depthwise.
        bias: Whether the convolution has a bias, which the normalisation after it makes superfluous.
        eps: What the normalisation adds to the variance.
        act: The activation's class, or None for a linear layer.

    Maps ``(N, in, h, w)`` to ``(N, out, h, w)``. Also a single pixel, such as the pooled features of one image, trains.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        eps: float = 1e-5,
        act: Callable[[], nn.Module] | None = nn.ReLU,
    ) -> None:
        padding = dilation * (kernel_size // 2)
        super().__init__(
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                stride=stride,
                padding=padding,
                dilation=dilation,
                groups=groups,
                bias=bias,
            ),
            nn.BatchNorm2d(out_channels, eps=eps),
            *([] if act is None else [act()]),
        )

    def forward(self, x: Tensor) -> Tensor:
        conv, norm, *act = self
        x = norm_pooled(norm, conv(x))
        return act[0](x) if act else x


def depthwise(channels: int, *, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A 3x3 convolution of each channel by itself, without a bias: ``(N, C, H, W)`` to ``(N, C, H/stride, W/stride)``,
    rounded up.
    """
    return nn.Conv2d(
        channels, channels, 3, stride=stride, padding=dilation, dilation=dilation, groups=channels, bias=False
    )
