"""Swin Transformer as a feature extractor: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted
Windows", 2021, https://arxiv.org/abs/2103.14030, and "Swin Transformer V2", 2022, https://arxiv.org/abs/2111.09883.
The networks are torchvision's, without the classifier, with its stochastic depth in training.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.swin_transformer import (
    PatchMerging,
    PatchMergingV2,
    ShiftedWindowAttention,
    ShiftedWindowAttentionV2,
)

from ..layers.channel_norm import normalise_channels
from .weights import StateDict, imagenet_url

__all__ = ["Swin", "SwinName"]

SwinName = Literal["swin_t", "swin_s", "swin_b", "swin_v2_t", "swin_v2_s", "swin_v2_b"]


class Swin(nn.Module):
    """The four stages of a Swin Transformer, each map normalised over its channels: see `normalise_channels`.

    The image is padded with zeros to full patches (of which torchvision drops the rest where a side is no multiple of
    4), a map to full windows: any size passes, also one smaller than a window, and in a program of `torch.export` too.

    Args:
        name: Variant.

    Attributes:
        channels: Channels of the four feature maps.
        strides: Size of the image over theirs, rounded up.
        imagenet: Address of the ImageNet weights of torchvision's classifier.

    `forward` maps images ``(N, 3, H, W)`` to the feature maps, ``(N, channels[i], h, w)``.
    """

    strides = (4, 8, 16, 32)

    def __init__(self, name: SwinName) -> None:
        super().__init__()
        self.imagenet = imagenet_url(name)
        classifier = get_model(name)
        self.features = classifier.features
        self.norm = classifier.norm
        deepest = self.norm.normalized_shape[0]
        self.channels = tuple(deepest // factor for factor in (8, 4, 2, 1))
        for module in self.features.modules():  # torchvision's functions for version 2 take no classes but their own
            module.__class__ = _ANY_SIZE.get(type(module), type(module))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        height, width = x.shape[-2:]
        x = F.pad(x, (0, (width + 3) // 4 * 4 - width, 0, (height + 3) // 4 * 4 - height))
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)  # (N, h, w, C)
            if index in (1, 3, 5):
                maps.append(normalise_channels(x, self.norm.eps))
        maps.append(self.norm(x))
        return tuple(x.permute(0, 3, 1, 2) for x in maps)

    def from_imagenet(self, state: StateDict) -> StateDict:
        return {key: value for key, value in state.items() if not key.startswith("head.")}


# --- torchvision's layers without a decision in Python that depends on the size, which a trace would hold fast ---


class _Attention(ShiftedWindowAttention):
    def forward(self, x: Tensor) -> Tensor:
        return _attend(self, x, None)


class _AttentionV2(ShiftedWindowAttentionV2):
    def forward(self, x: Tensor) -> Tensor:
        return _attend(self, x, torch.clamp(self.logit_scale, max=math.log(100.0)).exp())


def _attend(layer: ShiftedWindowAttention, x: Tensor, scale: Tensor | None) -> Tensor:
    """torchvision's `shifted_window_attention`, whose dropouts Swin does not use: ``(N, h, w, C)`` to the same.

    Args:
        scale: Of cosine attention, version 2.
    """
    number, height, width, channels = x.shape
    (side, _), heads = layer.window_size, layer.num_heads
    down, across = (height + side - 1) // side, (width + side - 1) // side
    # A map of one window is not shifted: 1 // 1 is 1, any other quotient is 0.
    shifts = [shift * (1 - 1 // windows) for shift, windows in zip(layer.shift_size, (down, across), strict=True)]
    x = F.pad(x, (0, 0, 0, across * side - width, 0, down * side - height))
    shifted = any(layer.shift_size)
    if shifted:
        x = torch.roll(x, (-shifts[0], -shifts[1]), (1, 2))
    windows = x.view(number, down, side, across, side, channels).permute(0, 1, 3, 2, 4, 5)
    windows = _packed(windows).view(number * down * across, side * side, channels)

    bias = layer.qkv.bias
    if scale is not None:  # keys have no bias
        bias = bias.clone()
        bias[channels : 2 * channels].zero_()
    qkv = F.linear(windows, layer.qkv.weight, bias)
    q, k, v = qkv.view(-1, side * side, 3, heads, channels // heads).permute(2, 0, 3, 1, 4)
    if scale is not None:
        attention = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * scale
    else:
        attention = (q * (channels // heads) ** -0.5) @ k.transpose(-2, -1)
    attention = attention + layer.get_relative_position_bias()
    if shifted:
        mask = _between_edges(x, side, (down, across), shifts)
        attention = attention.view(number, down * across, heads, side * side, side * side) + mask[:, None]
        attention = attention.view(-1, heads, side * side, side * side)
    x = _packed((F.softmax(attention, dim=-1) @ v).transpose(1, 2)).view(-1, side * side, channels)
    x = F.linear(x, layer.proj.weight, layer.proj.bias)

    x = x.view(number, down, across, side, side, channels).permute(0, 1, 3, 2, 4, 5)
    x = _packed(x).view(number, down * side, across * side, channels)
    if shifted:
        x = torch.roll(x, (shifts[0], shifts[1]), (1, 2))
    return _packed(x[:, :height, :width])


def _between_edges(x: Tensor, side: int, windows: tuple[int, int], shifts: list[int]) -> Tensor:
    """-100 between the pixels of a window that the shift brought together from opposite edges: ``(windows, p, p)``."""
    wrapped = [
        (torch.arange(count * side, device=x.device) >= count * side - shift).view(count, side)
        for count, shift in zip(windows, shifts, strict=True)
    ]
    part = 2 * wrapped[0][:, None, :, None].long() + wrapped[1][None, :, None, :].long()
    part = _packed(part).view(windows[0] * windows[1], side * side)
    return (part[:, :, None] != part[:, None, :]).to(x.dtype) * -100.0


def _packed(x: Tensor) -> Tensor:
    """A copy, without asking whether one is needed: that depends on whether a side is 1."""
    return x.clone(memory_format=torch.contiguous_format)


class _Merging(PatchMerging):
    def forward(self, x: Tensor) -> Tensor:
        return self.reduction(self.norm(_fours(x)))


class _MergingV2(PatchMergingV2):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.reduction(_fours(x)))


def _fours(x: Tensor) -> Tensor:
    """Each 2x2 pixels as one, column by column: ``(N, h, w, C)`` to ``(N, ceil(h / 2), ceil(w / 2), 4 C)``."""
    number, height, width, channels = x.shape
    down, across = (height + 1) // 2, (width + 1) // 2
    x = F.pad(x, (0, 0, 0, across * 2 - width, 0, down * 2 - height))
    x = x.view(number, down, 2, across, 2, channels).permute(0, 1, 3, 4, 2, 5)
    return _packed(x).view(number, down, across, 4 * channels)


_ANY_SIZE = {
    ShiftedWindowAttention: _Attention,
    ShiftedWindowAttentionV2: _AttentionV2,
    PatchMerging: _Merging,
    PatchMergingV2: _MergingV2,
}
