"""The dilated ResNet of https://github.com/hszhao/semseg, in which PSPNet and PSANet were released; the releases of
OCNet and CCNet have the same.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from . import DilatedName, Stem, create
from .resnet import ResNetName

__all__ = ["create_semseg"]


def create_semseg(name: DilatedName, *, output_stride: Literal[8, 16], stem: Stem | None = None) -> Any:
    """The backbone `name`; a ResNet with the stem ``v1s``, and in a dilated stage all blocks dilated alike.

    Args:
        name: Feature extractor. Those that are no ResNets have neither and are as elsewhere.
        output_stride: Size of the image over that of the last feature map.
        stem: Another stem for a ResNet.

    Raises:
        ConfigError: There is a stem given for something else than a ResNet.
    """
    if name in get_args(ResNetName):
        return create(name, output_stride=output_stride, stem=stem or "v1s", contracted=False)
    return create(name, output_stride=output_stride, stem=stem or "7x7")
