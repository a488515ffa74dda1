"""Feature extractors by name: `create` gives any of them, `DilatedName` and `PyramidName` say which fit where.

A backbone is a module that maps images ``(N, 3, H, W)`` to a tuple of feature maps, the deepest last, and has

``channels``, ``strides``
    those of its feature maps, in the same order; the last four have the strides 4, 8, 16 and 32, unless dilated.
    Height and width of a map are the image's over its stride, rounded up.
``imagenet``
    address of the weights of torchvision's ImageNet classifier that fit, or None where torchvision has none.
``from_imagenet(state)``
    that classifier's state dict under the backbone's own names, without what the backbone has not.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from segctl.errors import ConfigError, listing

from . import convnext, densenet, efficientnet, hrnet, mobilenet, resnet, swin, vgg, xception
from .chain import Taps
from .resnet import Stem

__all__ = ["DilatedName", "PyramidName", "Stem", "Taps", "create"]

# Those whose last stages can be dilated instead of strided.
DilatedName = Literal[
    resnet.ResNetName,
    densenet.DenseNetName,
    mobilenet.MobileNetV2Name,
    mobilenet.MobileNetV3Name,
    efficientnet.EfficientNetName,
    xception.XceptionName,
]
# Those with feature maps of strides 4, 8, 16 and 32.
PyramidName = Literal[DilatedName, convnext.ConvNeXtName, hrnet.HRNetName, swin.SwinName, vgg.VGGName]

_FAMILIES: dict[str, Callable[..., Any]] = {
    name: family
    for names, family in (
        (resnet.ResNetName, resnet.ResNet),
        (densenet.DenseNetName, densenet.DenseNet),
        (mobilenet.MobileNetV2Name, mobilenet.MobileNetV2),
        (mobilenet.MobileNetV3Name, mobilenet.MobileNetV3),
        (efficientnet.EfficientNetName, efficientnet.EfficientNet),
        (xception.XceptionName, xception.Xception),
        (convnext.ConvNeXtName, convnext.ConvNeXt),
        (hrnet.HRNetName, hrnet.HRNet),
        (swin.SwinName, swin.Swin),
        (vgg.VGGName, vgg.VGG),
    )
    for name in get_args(names)
}


def create(
    name: str,
    *,
    output_stride: Literal[8, 16, 32] = 32,
    multi_grid: Sequence[int] | None = None,
    stem: Stem = "7x7",
    contracted: bool = True,
    stride2: bool = False,
    taps: Taps = "last",
) -> Any:
    """The backbone `name`, with random weights; `segctl_models.backbones.weights.initialise` gives it others.

    Args:
        name: One of `PyramidName`.
        output_stride: Size of the image over that of the last feature map; below 32 only for `DilatedName`.
        multi_grid: Factors on the dilation of the last stage's blocks (ResNets).
        stem: First layers (ResNets).
        contracted: Whether a dilated stage's first block keeps the dilation of the stage before (ResNets).
        stride2: Begin with a feature map of stride 2, before the four others, where the family has one at all. Those
            without a pooling behind their stem begin with one anyway.
        taps: After which block of a stride its feature map is taken (MobileNets).

    Raises:
        ConfigError: The backbone cannot have one of these options.
    """
    family = _FAMILIES[name]
    known = inspect.signature(family).parameters
    given = {
        "output_stride": output_stride,
        "multi_grid": multi_grid,
        "stem": stem,
        "contracted": contracted,
        "taps": taps,
    }
    # What is left at its default here is so in every family, also in one that does not know the option.
    options = {option: value for option, value in given.items() if value != _DEFAULTS[option]}
    unknown = sorted(options.keys() - known.keys())
    if unknown:
        raise ConfigError(
            f"The backbone {name} cannot have {listing(f'{option} {options[option]}' for option in unknown)}.",
            "Leave that as it is by default, or choose another backbone.",
        )
    if "stride2" in known:
        options["stride2"] = stride2
    return family(name, **options)


_DEFAULTS = {name: p.default for name, p in inspect.signature(create).parameters.items() if name != "name"}
