"""MobileNets as feature extractors: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018,
https://arxiv.org/abs/1801.04381, and Howard et al., "Searching for MobileNetV3", 2019,
https://arxiv.org/abs/1905.02244. The networks are torchvision's.
"""

from __future__ import annotations

from typing import Literal

from torchvision.models import get_model

from .chain import Chain, Taps

__all__ = ["MobileNetV2", "MobileNetV2Name", "MobileNetV3", "MobileNetV3Name"]

MobileNetV2Name = Literal["mobilenet_v2"]
MobileNetV3Name = Literal["mobilenet_v3_large", "mobilenet_v3_small"]


class MobileNetV2(Chain):
    """MobileNetV2 up to its last bottleneck, of 320 channels; see `Chain`.

    The convolution to 1280 channels behind it is left out: segmentation heads are as good and faster on "the second
    last feature map" (section 6.3).

    Args:
        name: Variant.
        output_stride: Size of the image over that of the last feature map.
        taps: Where the feature maps are taken.
    """

    def __init__(self, name: MobileNetV2Name, *, output_stride: Literal[8, 16, 32] = 32, taps: Taps = "last") -> None:
        super().__init__(name, get_model(name).features[:-1], output_stride=output_stride, taps=taps)


class MobileNetV3(Chain):
    """MobileNetV3 with its last convolution, whose features section 6.4 and torchvision segment; see `Chain`.

    Args:
        name: Variant.
        output_stride: Size of the image over that of the last feature map.
        taps: Where the feature maps are taken; torchvision's segmentation models read the ``"strided"`` ones.
    """

    def __init__(self, name: MobileNetV3Name, *, output_stride: Literal[8, 16, 32] = 32, taps: Taps = "last") -> None:
        super().__init__(name, get_model(name).features, output_stride=output_stride, taps=taps)
