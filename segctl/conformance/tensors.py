"""Inputs that the checks of models and losses try, and how they read what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from segctl.conformance.report import BreachError
from segctl.errors import listing

IGNORE_INDEX = 255


def images(size: tuple[int, int], *, count: int = 2) -> Tensor:
    """Noise of mean 0 and standard deviation 1, as normalised photographs have."""
    return torch.randn(count, 3, *size)


def of_different_brightness(batch: Tensor) -> Tensor:
    """The images with another mean each, as photographs have.

    Means of much noise are all alike: behind a pooling, a normalisation would make much of what is next to nothing.
    """
    return batch + torch.randn(len(batch), batch.shape[1], 1, 1)


def labels(size: tuple[int, int], num_classes: int, *, count: int = 2) -> Tensor:
    """Random classes, with some ignored pixels."""
    target = torch.randint(num_classes, (count, *size))
    return torch.where(torch.rand(target.shape) < 0.1, IGNORE_INDEX, target)


def named(outputs: Any) -> dict[str, Tensor]:
    """The model's outputs by name.

    Raises:
        BreachError: They are neither a tensor nor a mapping of tensors.
    """
    if isinstance(outputs, Tensor):
        return {"out": outputs}
    if not isinstance(outputs, Mapping):
        raise BreachError(f"the model returned {type(outputs).__name__}, not a tensor or a dict of tensors")
    for name, value in outputs.items():
        if not isinstance(value, Tensor):
            raise BreachError(f"the model's output {name!r} is {type(value).__name__}, not a tensor")
    return dict(outputs)


def logits_of(outputs: Any, num_classes: int, size: tuple[int, int], *, count: int = 2, when: str = "") -> Tensor:
    """The main logits.

    Args:
        outputs: What the model returned.
        num_classes: The model's number of classes.
        size: Height and width of the images.
        count: Number of images.
        when: Under which circumstances they came, for the message: ``"in training"``.

    Raises:
        BreachError: They are missing, are not floating point, have not the shape (count, num_classes, *size) or are not
            all finite.
    """
    maps = named(outputs)
    if "out" not in maps:
        raise BreachError(f"the model returned {listing(maps)}, but no 'out'")
    logits, expected = maps["out"], (count, num_classes, *size)
    if tuple(logits.shape) != expected:
        raise BreachError(
            f"{size[0]}x{size[1]} images give logits of shape {tuple(logits.shape)} instead of {expected}"
        )
    if not logits.is_floating_point():
        raise BreachError(f"the logits are {logits.dtype}, not floating point")
    wrong = logits.numel() - int(logits.isfinite().sum())
    if wrong:
        raise BreachError(
            f"{wrong} of {logits.numel()} logits of {size[0]}x{size[1]} images are not finite" + (when and f" {when}")
        )
    return logits


def total(terms: Tensor | Mapping[str, Tensor]) -> Tensor:
    values = list(terms.values()) if isinstance(terms, Mapping) else [terms]
    return torch.stack([value.reshape(()) for value in values]).sum()


def some(names: list[str], most: int = 3) -> str:
    return listing(names) if len(names) <= most else f"{', '.join(names[:most])} and {len(names) - most} more"


_DIGITS = 1e-6  # float32, with a margin of 10
# Measured over the 30 built-in models, once calibrated: one image instead of two, memory of another layout and a traced
# graph move no logit by more than 0.001 of their spread; the margin is 10 again. What ignores the image or the weights
# moves them by 1 or more.
_NOISE = 1e-2


def spread(logits: Tensor) -> float:
    """How much depends on the image: the standard deviation between images, over all classes and pixels (RMS).

    Between images, not between pixels: what a model makes of the borders or of the position alone is the same for all.
    """
    return logits.var(0).mean().sqrt().item()


def tell_images_apart(logits: Tensor) -> bool:
    """Whether the logits of the batch's images differ by more than float32's last digits."""
    return spread(logits) > 10 * _DIGITS * logits.abs().max().item()


def differ(logits: Tensor, expected: Tensor) -> str | None:
    """How logits differ by more than another order of sums does, or None.

    Args:
        logits: For all images of `expected`, or for the first alone.
        expected: For two images or more, whose spread is the measure.
    """
    most, measure = distance(logits, expected[: len(logits)]), spread(expected)
    if most <= _NOISE * measure + _DIGITS * expected.abs().max().item():
        return None
    return f"by up to {most:.2g}, where those of different images differ by {measure:.2g}"


def distance(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()
