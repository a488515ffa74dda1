"""The input that published weights were trained with, made of the input that segctl gives to every model."""

from __future__ import annotations

from math import inf, isfinite
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from segctl.errors import ConfigError

__all__ = ["ChannelOrder", "Channels", "input_normalisation"]

ChannelOrder: TypeAlias = Literal["rgb", "bgr"]
Channels: TypeAlias = tuple[float, float, float]

# What a model gets: (x / 255 - mean) / std of uint8 RGB, unless a configuration's section `input` says otherwise.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class _InputNormalisation(nn.Module):
    """From ``(x / 255 - 0.485) / 0.229`` (and so on) of RGB to ``(x - mean) / std`` of channels in another order."""

    def __init__(self, order: ChannelOrder, mean: Channels, std: Channels) -> None:
        super().__init__()
        self.flipped = order == "bgr"
        given_mean, given_std = (torch.tensor(each, dtype=torch.float64) for each in (_MEAN, _STD))
        if self.flipped:
            given_mean, given_std = given_mean.flip(0), given_std.flip(0)
        wanted_mean, wanted_std = (torch.tensor(each, dtype=torch.float64) for each in (mean, std))
        scale, shift = 255 * given_std / wanted_std, (255 * given_mean - wanted_mean) / wanted_std
        # Not persistent: they follow from the options, and are no weights.
        self.register_buffer("scale", scale.float()[:, None, None], persistent=False)
        self.register_buffer("shift", shift.float()[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return (image.flip(1) if self.flipped else image) * self.scale + self.shift


class _Flip(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.flip(1)


def input_normalisation(order: ChannelOrder, mean: Channels | None, std: Channels | None) -> nn.Module:
    """Maps images ``(N, 3, H, W)`` as segctl gives them, normalised with ImageNet's mean and standard deviation, to
    what the options of a model say.

    It takes for granted that the configuration's section `input` is as by default: a model with these options declares
    ``own_input=("mean", "std")``, so that another one is refused beside them. With neither `mean` nor `std` no
    value is changed, and with "rgb" nothing at all.

    Args:
        order: Of the channels that the model sees.
        mean: Subtracted from the channels, in `order`, of values from 0 to 255.
        std: What they are divided by then.

    Raises:
        ConfigError: Of `mean` and `std` only one is given, one is not finite, or a `std` is not above 0.
    """
    if (mean is None) != (std is None):
        missing = "std" if std is None else "mean"
        raise ConfigError(
            f"model.{missing} is missing: mean and std belong together.",
            "Give both, for values from 0 to 255; a std of [1, 1, 1] leaves these as they are.",
        )
    if mean is None or std is None:
        return _Flip() if order == "bgr" else nn.Identity()
    for value in mean:
        if not isfinite(value):
            raise ConfigError(f"model.mean: {value:g} is not a finite number.")
    for value in std:
        if not 0 < value < inf:
            raise ConfigError(f"model.std: {value:g} is not a finite number above 0.")
    return _InputNormalisation(order, mean, std)
