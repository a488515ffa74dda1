"""Backbones for architectures whose ResNets were released with a stem of three 3x3 convolutions."""

from __future__ import annotations

from typing import Any, get_args

from . import DilatedName, Stem, create
from .resnet import ResNetName

__all__ = ["create_deep_stem"]


def create_deep_stem(name: DilatedName, *, stem: Stem | None = None, **options: Any) -> Any:
    """The backbone `name`; a ResNet has the stem ``v1s``.

    Args:
        name: Feature extractor.
        stem: Another stem for a ResNet.
        options: Those of `create`.

    Raises:
        ConfigError: There is a stem given for something else than a ResNet, or another option does not fit.
    """
    return create(name, stem=stem or ("v1s" if name in get_args(ResNetName) else "7x7"), **options)
