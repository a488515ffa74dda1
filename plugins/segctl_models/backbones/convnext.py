"""ConvNeXt as a feature extractor: Liu et al., "A ConvNet for the 2020s", 2022, https://arxiv.org/abs/2201.03545. The
networks are torchvision's, without the classifier, with its stochastic depth in training.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model

from ..layers.channel_norm import normalise_channels
from .weights import StateDict, imagenet_url

__all__ = ["ConvNeXt", "ConvNeXtName"]

ConvNeXtName = Literal["convnext_tiny", "convnext_small", "convnext_base", "convnext_large"]


class ConvNeXt(nn.Module):
    """The four stages of a ConvNeXt, each map normalised over its channels: see `normalise_channels`.

    An image, or a map before the next stage, is padded with zeros to full patches, of which torchvision drops the rest
    where a side is no multiple of 32.

    Args:
        name: Variant.

    Attributes:
        channels: Channels of the four feature maps.
        strides: Size of the image over theirs, rounded up.
        imagenet: Address of the ImageNet weights of torchvision's classifier.

    `forward` maps images ``(N, 3, H, W)`` to the feature maps, ``(N, channels[i], h, w)``.
    """

    strides = (4, 8, 16, 32)

    def __init__(self, name: ConvNeXtName) -> None:
        super().__init__()
        self.imagenet = imagenet_url(name)
        classifier = get_model(name)
        self.features = classifier.features
        self.norm = classifier.classifier[0]
        self.channels = tuple(stage[0].block[0].in_channels for stage in self.features[1::2])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        maps = []
        for index, layer in enumerate(self.features):
            if index % 2 == 0:  # the convolution that cuts a map into patches
                height, width = x.shape[-2:]
                patch = 2 if index else 4
                x = F.pad(x, (0, -width % patch, 0, -height % patch))
            x = layer(x)
            if index in (1, 3, 5):
                maps.append(normalise_channels(x.permute(0, 2, 3, 1), self.norm.eps).permute(0, 3, 1, 2))
        return *maps, self.norm(x)

    def from_imagenet(self, state: StateDict) -> StateDict:
        named = {key.replace("classifier.0.", "norm."): value for key, value in state.items()}
        return {key: value for key, value in named.items() if not key.startswith("classifier.")}
