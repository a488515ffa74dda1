"""Backbones for architectures whose ResNets were released with a stem of three 3x3 convolutions."""

from __future__ import annotations

from typing import Any, Literal, get_args

from . import DilatedName, Stem, create
from .resnet import ResNetName

__all__ = ["create_deep_stem"]


def create_deep_stem(
    name: DilatedName,
    *,
    output_stride: Literal[8, 16, 32],
    stem: Stem | None = None,
    contracted: bool = True,
    stride2: bool = False,
) -> Any:
    """The backbone `name`; a ResNet has the stem ``v1s`` and may be that of semseg, see `contracted`.

    Args:
        name: Feature extractor. Those that are no ResNets are as elsewhere.
        output_stride: Size of the image over that of the last feature map.
        stem: Another stem for a ResNet.
        contracted: Whether a dilated stage's first block keeps the dilation of the stage before; not so in the ResNet
            of https://github.com/hszhao/semseg, in which PSPNet, PSANet, OCNet and CCNet were released.
        stride2: Begin with a feature map of stride 2.

    Raises:
        ConfigError: There is a stem given for something else than a ResNet.
    """
    if name in get_args(ResNetName):
        return create(name, output_stride=output_stride, stem=stem or "v1s", contracted=contracted, stride2=stride2)
    return create(name, output_stride=output_stride, stem=stem or "7x7", stride2=stride2)
