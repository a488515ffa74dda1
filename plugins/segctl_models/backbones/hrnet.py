"""HRNet as a feature extractor: Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition",
2020, https://arxiv.org/abs/1908.07919, section 3. Parameters are named as in the authors' release (HRNet/
HRNet-Semantic-Segmentation, ``lib/models/seg_hrnet.py``), which mmsegmentation and timm have kept.

Maps are resized as everywhere in segctl (bilinear, pixel centres aligned): the release of the paper did so, its later
version for OCR aligns the corners.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from ..layers.conv import ConvNormAct
from ..layers.resize import resize
from .weights import StateDict

__all__ = ["HRNet", "HRNetName"]

HRNetName = Literal["hrnet_w18", "hrnet_w32", "hrnet_w48"]

_WIDTHS = {"hrnet_w18": 18, "hrnet_w32": 32, "hrnet_w48": 48}
_BLOCKS = 4  # per stream of a module, and in the first stage


class HRNet(nn.Module):
    """Four stages; each adds a stream of half the resolution of the one before, and all stay to the end.

    Args:
        name: The variant: after w comes the width of the stream of highest resolution, which doubles with each.

    Attributes:
        channels: Channels of the five feature maps.
        strides: Size of the image over theirs, rounded up: 2, 4, 8, 16 and 32.
        imagenet: None: torchvision has no weights.

    `forward` maps images ``(N, 3, H, W)`` to the feature map between the stem's two convolutions, and those of the four
    streams, ``(N, channels[i], h, w)``.
    """

    imagenet = None
    strides = (2, 4, 8, 16, 32)

    def __init__(self, name: HRNetName) -> None:
        super().__init__()
        widths = [_WIDTHS[name] * factor for factor in (1, 2, 4, 8)]
        self.channels = (64, *widths)
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        shortcut = ConvNormAct(64, 256, 1, act=None)
        self.layer1 = nn.Sequential(
            Bottleneck(64, 64, downsample=shortcut), *(Bottleneck(256, 64) for _ in range(_BLOCKS - 1))
        )
        self.transition1 = nn.ModuleList([ConvNormAct(256, widths[0]), nn.Sequential(_halve(256, widths[1]))])
        self.stage2 = nn.Sequential(HighResolutionModule(widths[:2]))
        self.transition2 = _new_stream(widths[:3])
        self.stage3 = nn.Sequential(*(HighResolutionModule(widths[:3]) for _ in range(4)))
        self.transition3 = _new_stream(widths)
        self.stage4 = nn.Sequential(*(HighResolutionModule(widths) for _ in range(3)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        stem = self.relu(self.bn1(self.conv1(image)))
        x = self.layer1(self.relu(self.bn2(self.conv2(stem))))
        streams = self.stage2([transition(x) for transition in self.transition1])
        streams = self.stage3([*streams, self.transition2[-1](streams[-1])])
        streams = self.stage4([*streams, self.transition3[-1](streams[-1])])
        return (stem, *streams)

    def from_imagenet(self, state: StateDict) -> StateDict:
        """Takes the authors' and timm's classifiers."""
        head = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")
        return {key: value for key, value in state.items() if not key.startswith(head)}


class HighResolutionModule(nn.Module):
    """Section 3.2 and 3.3: four residual blocks in each stream, then every stream takes in all others.

    Args:
        widths: Channels of the streams, from high to low resolution.

    Maps one feature map per stream to as many of the same shapes.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width, width) for _ in range(_BLOCKS))) for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_exchange(widths, source, target) for source in range(len(widths)))
            for target in range(len(widths))
        )
        self.relu = nn.ReLU()

    def forward(self, streams: Sequence[Tensor]) -> list[Tensor]:
        streams = [branch(x) for branch, x in zip(self.branches, streams, strict=True)]
        fused = []
        for target, exchanges in enumerate(self.fuse_layers):
            taken = [exchange(x) for exchange, x in zip(exchanges, streams, strict=True)]
            size = streams[target].shape[-2:]
            from_above, from_below = taken[: target + 1], taken[target + 1 :]
            fused.append(self.relu(reduce(torch.add, [*from_above, *(resize(x, size) for x in from_below)])))
        return fused


def _exchange(widths: Sequence[int], source: int, target: int) -> nn.Module:
    """Figure 4: strided 3x3 convolutions downwards, a 1x1 convolution before the resizing upwards."""
    if source == target:
        return nn.Identity()
    if source > target:
        return ConvNormAct(widths[source], widths[target], 1, act=None)
    steps = [_halve(widths[source], widths[source]) for _ in range(target - source - 1)]
    last = ConvNormAct(widths[source], widths[target], stride=2, act=None)  # the sum is activated instead
    return nn.Sequential(*steps, last)


def _new_stream(widths: Sequence[int]) -> nn.ModuleList:
    """Takes the stream of the lowest resolution to one of half of it; the others, named by position, stay."""
    return nn.ModuleList([*(nn.Identity() for _ in widths[:-1]), nn.Sequential(_halve(*widths[-2:]))])


def _halve(in_channels: int, out_channels: int) -> ConvNormAct:
    return ConvNormAct(in_channels, out_channels, stride=2)
