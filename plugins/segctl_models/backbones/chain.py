"""What the networks of inverted residual blocks have in common: torchvision has them as one chain of convolutions."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from .weights import StateDict, imagenet_url

__all__ = ["Chain", "Taps"]

# After which block of a stride its feature map is taken: the last, or the one that has the strided convolution.
Taps = Literal["last", "strided"]


class Chain(nn.Sequential):
    """The blocks of one of torchvision's classifiers with a feature map for each stride.

    Args:
        name: The classifier, whose blocks are in its attribute ``features``.
        blocks: Those of them that are used; parameters are named by their position, as in torchvision's segmentation
            models.
        output_stride: Size of the image over that of the last feature map. Further strides become dilation, also in
            the block that has the stride (torchvision's and mmsegmentation's MobileNets do so).
        taps: Where the feature maps are taken, see `Taps`; the deepest always behind the last block.

    Attributes:
        channels: Channels of the five feature maps.
        strides: Size of the image over theirs, rounded up: 2, 4, 8, 16 and 32, the last ones less where dilated.
        imagenet: Address of the ImageNet weights of torchvision's classifier.

    `forward` maps images ``(N, 3, H, W)`` to the feature maps, ``(N, channels[i], h, w)``.
    """

    def __init__(
        self,
        name: str,
        blocks: Iterable[nn.Module],
        *,
        output_stride: Literal[8, 16, 32] = 32,
        taps: Taps = "last",
    ) -> None:
        super().__init__(*blocks)
        self.imagenet = imagenet_url(name)
        strided = [index for index, block in enumerate(self) if any(conv.stride != (1, 1) for conv in _convs(block))]
        ends = [after - 1 for _, after in pairwise(strided)] if taps == "last" else strided[:-1]
        self.taps = (*ends, len(self) - 1)
        self.channels = tuple(_convs(self[index])[-1].out_channels for index in self.taps)
        self.strides = tuple(min(2**power, output_stride) for power in range(1, len(self.taps) + 1))
        kept = output_stride.bit_length() - 1  # strides of 2 that make 8, 16 or 32
        dilation = 1
        for index, block in enumerate(self):
            if index in strided[kept:]:
                dilation *= 2
            if dilation > 1:
                _dilate(block, dilation)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        features = []
        for index, block in enumerate(self):
            x = block(x)
            if index in self.taps:
                features.append(x)
        return tuple(features)

    def from_imagenet(self, state: StateDict) -> StateDict:
        used = tuple(f"features.{index}." for index in range(len(self)))
        return {key.removeprefix("features."): value for key, value in state.items() if key.startswith(used)}


def _convs(block: nn.Module) -> list[nn.Conv2d]:
    return [module for module in block.modules() if isinstance(module, nn.Conv2d)]


def _dilate(block: nn.Module, dilation: int) -> None:
    for conv in _convs(block):
        conv.stride = (1, 1)
        conv.dilation = (dilation, dilation) if conv.kernel_size != (1, 1) else (1, 1)
        conv.padding = tuple(dilation * (size // 2) for size in conv.kernel_size)
