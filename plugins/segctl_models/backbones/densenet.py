"""DenseNet as a feature extractor: Huang et al., "Densely Connected Convolutional Networks", 2017,
https://arxiv.org/abs/1608.06993 (DenseNet-BC). The networks are torchvision's, without the classifier.
"""

from __future__ import annotations

import re
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model

from .weights import StateDict, imagenet_url

__all__ = ["DenseNet", "DenseNetName"]

DenseNetName = Literal["densenet121", "densenet161", "densenet169", "densenet201"]

_OLD = re.compile(r"(?<=\.)(norm|conv)\.([12])(?=\.)")  # names in torchvision's files


class DenseNet(nn.Module):
    """The four dense blocks, each with the normalisation and activation behind it.

    The transitions' pooling rounds an odd height or width up, not down as in torchvision: no row or column is lost. At
    sizes that are multiples of 32 there is no difference.

    Args:
        name: Depth and width of the network.
        output_stride: Size of the image over that of the last feature map. Below 32, the last transitions do not pool,
            and the blocks behind them are dilated (as in DenseASPP, Yang et al. 2018).
        stride2: Whether the stem's feature map, before its pooling, comes first.

    Attributes:
        channels: Channels of the feature maps.
        strides: Size of the image over theirs, rounded up.
        imagenet: Address of the ImageNet weights of torchvision's classifier.

    `forward` maps images ``(N, 3, H, W)`` to the feature maps, ``(N, channels[i], h, w)``.
    """

    def __init__(self, name: DenseNetName, *, output_stride: Literal[8, 16, 32] = 32, stride2: bool = False) -> None:
        super().__init__()
        self.imagenet = imagenet_url(name)
        self.features = features = get_model(name).features
        self.stride2 = stride2
        norms = [*(getattr(features, f"transition{stage}").norm for stage in (1, 2, 3)), features.norm5]
        self.channels = tuple(norm.num_features for norm in norms)
        self.strides = (4, 8, min(16, output_stride), output_stride)
        if stride2:
            self.channels = (features.norm0.num_features, *self.channels)
            self.strides = (2, *self.strides)
        for stage in (1, 2, 3):  # the mean of what is there: two positions at an odd edge, one in its corner
            pool = nn.AvgPool2d(2, stride=2, ceil_mode=True, count_include_pad=False)
            getattr(features, f"transition{stage}").pool = pool
        if output_stride == 8:
            features.transition2.pool = nn.Identity()
            _dilate(features.denseblock3, 2)
        if output_stride <= 16:
            features.transition3.pool = nn.Identity()
            _dilate(features.denseblock4, 32 // output_stride)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        layers = self.features
        x = layers.relu0(layers.norm0(layers.conv0(x)))
        maps = [x] if self.stride2 else []
        x = layers.pool0(x)
        for stage in (1, 2, 3):
            transition = getattr(layers, f"transition{stage}")
            x = transition.relu(transition.norm(getattr(layers, f"denseblock{stage}")(x)))
            maps.append(x)
            x = transition.pool(transition.conv(x))
        return *maps, F.relu(layers.norm5(layers.denseblock4(x)))

    def from_imagenet(self, state: StateDict) -> StateDict:
        """Also takes the names of torchvision's files, which are older than its code: ``norm.1`` is ``norm1``."""
        return {_OLD.sub(r"\1\2", key): value for key, value in state.items() if not key.startswith("classifier.")}


def _dilate(block: nn.Module, dilation: int) -> None:
    for module in block.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            module.dilation = module.padding = (dilation, dilation)
