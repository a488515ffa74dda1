"""Swin Transformer as a feature extractor: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted
Windows", 2021, https://arxiv.org/abs/2103.14030, and "Swin Transformer V2", 2022, https://arxiv.org/abs/2111.09883.
The networks are torchvision's, without the classifier, with its stochastic depth in training.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model

from ..layers.channel_norm import normalise_channels
from .weights import StateDict, imagenet_url

__all__ = ["Swin", "SwinName"]

SwinName = Literal["swin_t", "swin_s", "swin_b", "swin_v2_t", "swin_v2_s", "swin_v2_b"]


class Swin(nn.Module):
    """The four stages of a Swin Transformer, each map normalised over its channels: see `normalise_channels`.

    The image is padded with zeros to full patches (of which torchvision drops the rest where a side is no multiple of
    4), a map to full windows: any size passes, also one smaller than a window. Whether a window can be shifted depends
    on the size, in Python: what `torch.export` gives takes the sizes at which the same maps are larger than a window as
    in its example.

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

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % 4, 0, -height % 4))
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)  # (N, h, w, C)
            if index in (1, 3, 5):
                maps.append(normalise_channels(x, self.norm.eps))
        maps.append(self.norm(x))
        return tuple(x.permute(0, 3, 1, 2) for x in maps)

    def from_imagenet(self, state: StateDict) -> StateDict:
        return {key: value for key, value in state.items() if not key.startswith("head.")}
