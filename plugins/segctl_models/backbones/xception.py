"""Xception-65 as a feature extractor: Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", 2017,
https://arxiv.org/abs/1610.02357, in the deeper, strided and dilatable form of Chen et al., "Encoder-Decoder with Atrous
Separable Convolution for Semantic Image Segmentation", 2018, https://arxiv.org/abs/1802.02611, section 3.2, Figure 4.

What that figure leaves open is as in the authors' release (``deeplab/core/xception.py`` in tensorflow/models): batch
normalisation uses eps 1e-3, and a stride that becomes a dilation dilates only the blocks behind its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor, nn

from ..layers.conv import ConvNormAct
from ..layers.separable import SeparableConv
from .weights import StateDict

__all__ = ["Xception", "XceptionName"]

XceptionName = Literal["xception65"]

_EPS = 1e-3


class _Block(NamedTuple):
    """A row of Figure 4."""

    widths: tuple[int, int, int]
    stride: int = 1
    shortcut: bool = True
    tap: bool = False  # whether the second convolution's result is one of the network's feature maps


_BLOCKS = (
    _Block((128, 128, 128), stride=2),  # entry flow
    _Block((256, 256, 256), stride=2, tap=True),
    _Block((728, 728, 728), stride=2, tap=True),
    *(_Block((728, 728, 728)) for _ in range(16)),  # middle flow
    _Block((728, 1024, 1024), stride=2, tap=True),  # exit flow
    _Block((1536, 1536, 2048), shortcut=False),
)


class Xception(nn.Module):
    """Entry, middle and exit flow.

    Args:
        name: The variant; there is one.
        output_stride: Size of the image over that of the last feature map. Below 32, the last blocks are dilated.
        multi_grid: Factors on the dilation of the three convolutions of the last block.

    Attributes:
        channels: Channels of the five feature maps.
        strides: Size of the image over theirs, rounded up.
        imagenet: None: torchvision has no weights.

    `forward` maps images ``(N, 3, H, W)`` to the feature maps ``(N, channels[i], h, w)``: the stem's, those of the
    second separable convolution in the two last blocks of the entry flow and in the first of the exit flow, which are
    the last before a stride, and the exit flow's. The one of stride 4 is DeepLabv3+'s "low-level feature".
    """

    imagenet = None

    def __init__(
        self,
        name: XceptionName = "xception65",
        *,
        output_stride: Literal[8, 16, 32] = 32,
        multi_grid: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvNormAct(3, 32, stride=2, eps=_EPS), ConvNormAct(32, 64, eps=_EPS))
        self.channels = (64, *(block.widths[1] for block in _BLOCKS if block.tap), _BLOCKS[-1].widths[-1])
        self.strides = tuple(min(stride, output_stride) for stride in (2, 4, 8, 16, 32))
        self.blocks = nn.ModuleList()
        channels, stride, dilation = 64, 2, 1
        for block in _BLOCKS:
            grid = multi_grid if multi_grid is not None and block is _BLOCKS[-1] else (1, 1, 1)
            strided = block.stride if stride < output_stride else 1
            dilations = [dilation * factor for factor in grid]
            self.blocks.append(XceptionBlock(channels, block.widths, strided, dilations, shortcut=block.shortcut))
            stride *= strided
            dilation *= block.stride // strided
            channels = block.widths[-1]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # the release's, whose tails it cuts; that takes torch many seconds
                nn.init.normal_(module.weight, std=0.09)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(image)
        features = [x]
        for block, described in zip(self.blocks, _BLOCKS, strict=True):
            second, x = block(x)
            if described.tap:
                features.append(second)
        return (*features, x)

    def from_imagenet(self, state: StateDict) -> StateDict:
        """Takes the state dict of timm's ``xception65``."""
        kept = {key: value for key, value in state.items() if not key.startswith("head.")}
        return {key.replace(".conv.", ".0.").replace(".bn.", ".1."): value for key, value in kept.items()}


class XceptionBlock(nn.Module):
    """Three separable convolutions and a shortcut around them.

    Args:
        in_channels: Channels of the input.
        widths: Channels of the three convolutions' results.
        stride: Stride of the third convolution, and of the shortcut.
        dilations: Dilations of the three.
        shortcut: Whether there is one. With it a ReLU goes before each convolution; without it, in the last block, one
            follows each of its two parts.

    `forward` maps ``(N, in, h, w)`` to the result of the second convolution, not activated, and to that of the block.
    """

    def __init__(
        self,
        in_channels: int,
        widths: tuple[int, int, int],
        stride: int,
        dilations: Sequence[int],
        *,
        shortcut: bool,
    ) -> None:
        super().__init__()
        # Not in place: the shortcut takes the block's input as it is, and the second result is a feature map.
        self.act = nn.ReLU() if shortcut else nn.Identity()
        self.shortcut = _shortcut(in_channels, widths[-1], stride) if shortcut else None
        ends = zip((in_channels, *widths), widths, (1, 1, stride), dilations, strict=False)
        self.stack = nn.ModuleDict(
            {
                f"conv{i}": SeparableConv(inputs, outputs, stride=step, dilation=dilation, eps=_EPS, act=not shortcut)
                for i, (inputs, outputs, step, dilation) in enumerate(ends, start=1)
            }
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = self.stack["conv1"](self.act(x))
        second = self.stack["conv2"](self.act(first))
        third = self.stack["conv3"](self.act(second))
        return second, third if self.shortcut is None else third + self.shortcut(x)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The identity in the middle flow; elsewhere, also where a stride has become a dilation, a 1x1 convolution."""
    if in_channels == out_channels:
        return nn.Identity()
    return ConvNormAct(in_channels, out_channels, 1, stride=stride, eps=_EPS, act=None)
