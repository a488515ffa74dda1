"""EfficientNets as feature extractors: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks", 2019, https://arxiv.org/abs/1905.11946, and "EfficientNetV2: Smaller Models and Faster Training", 2021,
https://arxiv.org/abs/2104.00298. The networks are torchvision's, with its stochastic depth in training.
"""

from __future__ import annotations

from typing import Literal

from torchvision.models import get_model

from .chain import Chain

__all__ = ["EfficientNet", "EfficientNetName"]

EfficientNetName = Literal[
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_b4",
    "efficientnet_b5",
    "efficientnet_b6",
    "efficientnet_b7",
    "efficientnet_v2_s",
    "efficientnet_v2_m",
    "efficientnet_v2_l",
]


class EfficientNet(Chain):
    """EfficientNet without the 1x1 convolution behind its last block, which widens features to be pooled; see `Chain`.

    Args:
        name: Variant.
        output_stride: Size of the image over that of the last feature map.
    """

    def __init__(self, name: EfficientNetName, *, output_stride: Literal[8, 16, 32] = 32) -> None:
        super().__init__(name, get_model(name).features[:-1], output_stride=output_stride)
