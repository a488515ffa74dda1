"""What remains to be done to the pixels of a training crop: mirror, colours, blur; on whichever device they are.

It is drawn with the crop, from the sample's own generator, and travels with the batch. Where the model is on a GPU it
is applied there, else by the data workers; both by the same code, so that a device gives the same pixels every time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as color

from segctl.config.schema import Augment

__all__ = ["Look", "apply_looks", "draw_look"]

REACH = 2  # pixels to each side that the blur sees
ONE = 128  # the sum of its weights: 255 times that is the largest number that a 16-bit integer holds


@dataclass(frozen=True)
class Look:
    """How one crop is to look.

    Attributes:
        top: Of the picture within the crop, whose other pixels are padding and stay as they are; as are the next three,
            in pixels.
        left: See `top`.
        height: See `top`.
        width: See `top`.
        mirrored: Left becomes right.
        brightness: Factor, as are the next two (torchvision's); None: unchanged.
        contrast: See `brightness`.
        saturation: See `brightness`.
        hue: Shift, in turns of the colour circle; None: unchanged.
        blur: Standard deviation of the Gaussian, in pixels; None: sharp.
    """

    top: int
    left: int
    height: int
    width: int
    mirrored: bool = False
    brightness: float | None = None
    contrast: float | None = None
    saturation: float | None = None
    hue: float | None = None
    blur: float | None = None


def draw_look(
    generator: np.random.Generator, settings: Augment, *, top: int, left: int, height: int, width: int
) -> Look:
    """Draws what the settings ask for, for the picture at that place in the crop."""
    mirrored = bool(generator.random() < settings.flip)
    factors = {
        name: float(generator.uniform(1 - amount, 1 + amount))
        for name, amount in (
            ("brightness", settings.brightness),
            ("contrast", settings.contrast),
            ("saturation", settings.saturation),
        )
        if amount > 0
    }
    hue = float(generator.uniform(-settings.hue, settings.hue)) if settings.hue > 0 else None
    # A picture smaller than the blur's kernel is left sharp.
    blurred = settings.blur > 0 and generator.random() < settings.blur and min(height, width) > 2 * REACH
    blur = float(generator.uniform(0.1, 2.0)) if blurred else None
    return Look(top, left, height, width, mirrored, hue=hue, blur=blur, **factors)


def apply_looks(images: Tensor, looks: Sequence[Look]) -> None:
    """Changes (n, 3, h, w) uint8 `images` in place, each to its look."""
    for image, look in zip(images, looks, strict=True):
        picture = image[:, look.top : look.top + look.height, look.left : look.left + look.width]
        changed = _changed(picture, look)
        if changed is not picture:
            picture.copy_(changed)


def _changed(picture: Tensor, look: Look) -> Tensor:
    planes = picture.flip(2) if look.mirrored else picture
    for adjust, amount in (
        (color.adjust_brightness, look.brightness),
        (color.adjust_contrast, look.contrast),
        (color.adjust_saturation, look.saturation),
        (color.adjust_hue, look.hue),
    ):
        if amount is not None:
            planes = adjust(planes, amount)
    # Rows of pixels, not planes, lie in memory.
    return planes if look.blur is None else _blur(planes.permute(1, 2, 0), look.blur).permute(2, 0, 1)


def _blur(pixels: Tensor, sigma: float) -> Tensor:
    """A Gaussian over 5 x 5 pixels of an (h, w, 3) uint8 picture, mirrored beyond its edges: columns, then rows.

    In 16-bit integers, and ten times as fast as a convolution of floats on a CPU; no further from that one than 1.
    """
    near, far = (math.exp(-(distance**2) / (2 * sigma**2)) for distance in (1, REACH))
    total = 1 + 2 * (near + far)
    weights = round(ONE * near / total), round(ONE * far / total)
    down = _smooth(pixels.to(torch.int16), 0, *weights)
    return _smooth(down, 1, *weights).to(torch.uint8)


def _smooth(values: Tensor, axis: int, near: int, far: int) -> Tensor:
    length = values.shape[axis]

    def part(start: int, count: int) -> Tensor:
        return values.narrow(axis, start, count)

    padded = torch.cat([part(2, 1), part(1, 1), values, part(length - 2, 1), part(length - 3, 1)], axis)

    def moved(by: int) -> Tensor:
        return padded.narrow(axis, REACH + by, length)

    sums = moved(0) * (ONE - 2 * (near + far))
    sums.add_(moved(-1) + moved(1), alpha=near).add_(moved(-2) + moved(2), alpha=far)
    return sums.add_(ONE // 2).bitwise_right_shift_(7)
