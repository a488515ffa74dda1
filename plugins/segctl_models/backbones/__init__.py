"""Feature extractors by name: `create` gives any of them, `DilatedName` and `PyramidName` say which fit where.

A backbone is a module that maps images ``(N, 3, H, W)`` to a tuple of feature maps, the deepest last, and has

``channels``, ``strides``
    those of its feature maps, in the same order; the last four have the strides 4, 8, 16 and 32, unless dilated.
``imagenet``
    address of the weights of torchvision's ImageNet classifier that fit, or None where torchvision has none.
``from_imagenet(state)``
    that classifier's state dict under the backbone's own names, without what the backbone has not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from . import resnet, vgg

__all__ = ["DilatedName", "PyramidName", "create"]

# Those whose last stages can be dilated instead of strided.
DilatedName = Literal[resnet.ResNetName]
# Those with feature maps of strides 4, 8, 16 and 32.
PyramidName = Literal[DilatedName, vgg.VGGName]


def create(
    name: str, *, output_stride: Literal[8, 16, 32] = 32, multi_grid: Sequence[int] | None = None, **options: Any
) -> Any:
    """The backbone `name`, with random weights; `segctl_models.backbones.weights.initialise` gives it others.

    Args:
        name: One of `PyramidName`.
        output_stride: Size of the image over that of the last feature map; below 32 only for `DilatedName`.
        multi_grid: Factors on the dilation of the last stage's blocks (ResNets).
        options: What only some families have, such as a ResNet's ``stem``.
    """
    if name.startswith("vgg"):
        return vgg.VGG(name, **options)
    return resnet.ResNet(name, output_stride=output_stride, multi_grid=multi_grid, **options)
