"""How much a class counts in a loss: given by the user, or from how many pixels it has in the training masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite, log
from statistics import median
from typing import Literal, TypeAlias, get_args

from segctl.errors import ConfigError, DataError, listing

__all__ = ["ClassWeights", "CountPixels", "Scheme", "from_pixels", "resolve"]

Scheme: TypeAlias = Literal["inverse_frequency", "median_frequency", "enet", "erfnet"]
ClassWeights: TypeAlias = list[float] | Scheme | None
CountPixels: TypeAlias = Callable[[], Sequence[int]]

_LOGARITHM = {"enet": 1.02, "erfnet": 1.10}


def resolve(choice: ClassWeights, num_classes: int, class_pixels: CountPixels | None) -> list[float] | None:
    """The weight of each class, or None where all count the same.

    Args:
        choice: What the user chose.
        num_classes: Number of weights there must be.
        class_pixels: Counts the pixels of each class in the training masks. That reads every mask, so it is called only
            when `choice` names a scheme.

    Raises:
        ConfigError: `choice` has not one non-negative weight for each class, or names an unknown scheme.
        DataError: A scheme is asked for, but no pixel of the training masks is labelled.
    """
    if choice is None:
        return None
    if isinstance(choice, str):
        return from_pixels(choice, _counted(choice, num_classes, class_pixels))
    weights = [float(weight) for weight in choice]
    if len(weights) != num_classes:
        raise ConfigError(
            f"loss.class_weights: {len(weights)} weights are given, but the data set has {num_classes} classes.",
            "Give one weight for each class, in the order of the classes.",
        )
    for index, weight in enumerate(weights):
        if not isfinite(weight) or weight < 0:
            raise ConfigError(
                f"loss.class_weights: the weight of class {index} is {weight:g}.",
                "Weights are 0 or greater, and finite.",
            )
    if not any(weights):
        raise ConfigError(
            "loss.class_weights: all weights are 0, so nothing would be learnt.", "Give at least one class a weight."
        )
    return weights


def from_pixels(scheme: Scheme, pixels: Sequence[int]) -> list[float]:
    """The weights of a scheme, from the number of pixels of each class, ignored ones not counted.

    With p the share of a class in all labelled pixels:

    ``inverse_frequency``
        ``1 / (K p)`` with K the number of classes that occur: each class has the same weight in all, and a pixel 1 on
        average.
    ``median_frequency``
        ``median(p) / p`` over the classes that occur (Eigen and Fergus 2015, section 6.3.2). They take each p over the
        images that show the class, which gives rare classes less weight than here, where p is over all training images.
    ``enet``
        ``1 / ln(1.02 + p)``, from 1.4 for a class that is everywhere to 50.5 for one that is nowhere (Paszke et al.
        2016, section 5.2).
    ``erfnet``
        ``1 / ln(1.10 + p)``, from 1.3 to 10.5: ENet's with the constant of ERFNet's release (Romera et al. 2018,
        https://github.com/Eromera/erfnet_pytorch), which ESPNet's, ESPNetv2's, CGNet's and LEDNet's releases took over.

    A class without pixels gets 0 from the first two.
    """
    total = sum(pixels)
    if total <= 0:
        raise DataError(
            f"loss.class_weights: {scheme} needs labelled pixels, but the training masks have none.",
            "Check the masks and the data set's ignore_index, or give the weights as a list.",
        )
    shares = [count / total for count in pixels]
    present = [share for share in shares if share > 0]
    if scheme in _LOGARITHM:
        return [1 / log(_LOGARITHM[scheme] + share) for share in shares]
    scale = 1 / len(present) if scheme == "inverse_frequency" else median(present)
    return [scale / share if share > 0 else 0.0 for share in shares]


def _counted(scheme: str, num_classes: int, class_pixels: CountPixels | None) -> list[int]:
    schemes = get_args(Scheme)
    if scheme not in schemes:
        raise ConfigError(f"loss.class_weights: {scheme!r} is not a list of weights and none of {listing(schemes)}.")
    if class_pixels is None:
        raise ConfigError(
            f"loss.class_weights: {scheme} is computed from the training masks, and none are at hand.",
            "Give the weights as a list.",
        )
    pixels = [int(count) for count in class_pixels()]
    if len(pixels) != num_classes:
        raise DataError(f"The training masks were counted for {len(pixels)} classes, but there are {num_classes}.")
    return pixels
