"""Mix Transformer, SegFormer's encoder: Xie, Wang, Yu, Anandkumar, Alvarez and Luo, "SegFormer: Simple and Efficient
Design for Semantic Segmentation with Transformers", 2021, https://arxiv.org/abs/2105.15203, section 3.1 and Table 6.

Names, initial weights and epsilons are those of the authors' release (NVlabs/SegFormer,
``mmseg/models/backbones/mix_transformer.py``). Feature maps are held as ``(N, h, w, C)`` inside, so that linear layers
and layer normalisation apply to them as they are.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from .mit_hub import from_hub
from .weights import StateDict

__all__ = ["MiT", "MiTName"]

MiTName = Literal["mit_b0", "mit_b1", "mit_b2", "mit_b3", "mit_b4", "mit_b5"]


class _Size(NamedTuple):
    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]


_SIZES = {
    "mit_b0": _Size((32, 64, 160, 256), (2, 2, 2, 2)),
    "mit_b1": _Size((64, 128, 320, 512), (2, 2, 2, 2)),
    "mit_b2": _Size((64, 128, 320, 512), (3, 4, 6, 3)),
    "mit_b3": _Size((64, 128, 320, 512), (3, 4, 18, 3)),
    "mit_b4": _Size((64, 128, 320, 512), (3, 8, 27, 3)),
    "mit_b5": _Size((64, 128, 320, 512), (3, 6, 40, 3)),
}
_HEADS = (1, 2, 5, 8)
_REDUCTIONS = (8, 4, 2, 1)
_EPS = 1e-6


class MiT(nn.Module):
    """Four stages of transformer blocks, each behind a patch embedding of overlapping patches.

    Args:
        name: The variant.
        stochastic_depth: Probability with which the last block's branches are skipped for an image in training; the
            others' grows linearly up to it from 0.

    Attributes:
        channels: Channels of the four feature maps.
        strides: Size of the image over theirs, rounded up: 4, 8, 16 and 32.
        imagenet: None: torchvision has no weights.

    `forward` maps images ``(N, 3, H, W)`` with H and W of 29 at least to the stages' feature maps,
    ``(N, channels[i], h, w)``.
    """

    imagenet = None
    strides = (4, 8, 16, 32)

    def __init__(self, name: MiTName, *, stochastic_depth: float = 0.1) -> None:
        super().__init__()
        self.channels, depths = _SIZES[name]
        for stage, (inputs, width) in enumerate(zip((3, *self.channels), self.channels, strict=False), start=1):
            size, stride = (7, 4) if stage == 1 else (3, 2)
            setattr(self, f"patch_embed{stage}", PatchEmbedding(inputs, width, size, stride))
        block = 0
        for stage, width in enumerate(self.channels, start=1):
            blocks = []
            for _ in range(depths[stage - 1]):
                skip = stochastic_depth * block / (sum(depths) - 1)
                blocks.append(Block(width, _HEADS[stage - 1], _REDUCTIONS[stage - 1], skip))
                block += 1
            setattr(self, f"block{stage}", nn.Sequential(*blocks))
            setattr(self, f"norm{stage}", nn.LayerNorm(width, eps=_EPS))
        self.apply(_initialise)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        features = [image]
        for stage in (1, 2, 3, 4):
            embed, blocks, norm = (getattr(self, f"{part}{stage}") for part in ("patch_embed", "block", "norm"))
            features.append(_for_conv(norm(blocks(embed(features[-1])))))
        return tuple(features[1:])

    def from_imagenet(self, state: StateDict) -> StateDict:
        """Takes the authors' classifiers, the release's and those on the Hugging Face hub."""
        head = ("head.", "classifier.", "decode_head.")
        return {key: value for key, value in from_hub(state).items() if not key.startswith(head)}


class PatchEmbedding(nn.Module):
    """The paper's "overlapped patch merging": a strided convolution. Maps ``(N, in, H, W)`` to ``(N, h, w, out)``."""

    def __init__(self, in_channels: int, out_channels: int, size: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, out_channels, size, stride=stride, padding=size // 2)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class Block(nn.Module):
    """Attention and Mix-FFN, each normalised before and added to what came in. Maps ``(N, h, w, C)`` to the same."""

    def __init__(self, channels: int, heads: int, reduction: int, skip: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=_EPS)
        self.attn = Attention(channels, heads, reduction)
        self.drop_path = StochasticDepth(skip, mode="row")
        self.norm2 = nn.LayerNorm(channels, eps=_EPS)
        self.mlp = MixFFN(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Attention(nn.Module):
    """The paper's "efficient self-attention": keys and values are patches of the map, not its positions.

    Args:
        channels: Channels C of the map.
        heads: Attention heads.
        reduction: Height and width of a patch; rows and columns that do not fill one are nobody's keys, as in the
            release.

    Maps ``(N, h, w, C)`` to the same.
    """

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.reduction = reduction
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        self.sr = nn.Conv2d(channels, channels, reduction, stride=reduction) if reduction > 1 else None
        self.norm = nn.LayerNorm(channels) if reduction > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        positions = x.flatten(1, 2)
        patches = positions if self.sr is None else self._reduce(x)
        query = self._split(self.q(positions))
        key, value = (self._split(part) for part in self.kv(patches).chunk(2, dim=2))
        seen = F.scaled_dot_product_attention(query, key, value)
        return self.proj(seen.transpose(1, 2).flatten(2)).view(x.shape)

    def _reduce(self, x: Tensor) -> Tensor:
        """``(N, h, w, C)`` to patches ``(N, L, C)``."""
        if torch.compiler.is_exporting():
            weight = self.sr.weight.movedim(1, 3).flatten(1)
            return self.norm(F.linear(_patches(x, self.reduction), weight, self.sr.bias))
        return self.norm(self.sr(_for_conv(x)).flatten(2).mT)

    def _split(self, x: Tensor) -> Tensor:
        """``(N, L, C)`` to ``(N, heads, L, C / heads)``."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class MixFFN(nn.Module):
    """The "Mix-FFN": a depthwise 3x3 convolution between linear layers stands for positional encoding.

    Maps ``(N, h, w, C)`` to the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.dwconv = nn.ModuleDict(
            {"dwconv": nn.Conv2d(4 * channels, 4 * channels, 3, padding=1, groups=4 * channels)}
        )
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dwconv["dwconv"](_for_conv(self.fc1(x)))
        return self.fc2(F.gelu(x).permute(0, 2, 3, 1))


def _for_conv(x: Tensor) -> Tensor:
    """``(N, h, w, C)`` as ``(N, C, h, w)``, without a copy; a program that is being exported copies.

    `torch.export` traces the layout of a convolution's result. Where channels lie last, that depends on whether there
    is more than one row, and the program would refuse smaller images than those it was exported with.
    """
    x = x.permute(0, 3, 1, 2)
    return x.contiguous() if torch.compiler.is_exporting() else x


def _patches(x: Tensor, side: int) -> Tensor:
    """``(N, h, w, C)`` as patches ``(N, L, side * side * C)``, what does not fill one left out.

    For export, where a convolution's result would again be bound to more than one row: here nothing has rows of them.
    """
    height, width = x.shape[1:3]
    columns = width // side
    count = height // side * columns
    place = torch.arange(count * side * side, device=x.device)
    patch, inner = place // (side * side), place % (side * side)
    row, column = patch // columns * side + inner // side, patch % columns * side + inner % side
    return x.flatten(1, 2)[:, row * width + column].unflatten(1, (count, side * side)).flatten(2)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)  # the release cuts it off at 2, a hundred deviations out
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        nn.init.zeros_(module.bias)
