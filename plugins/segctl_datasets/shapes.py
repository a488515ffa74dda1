"""Shapes: scenes that are drawn on the fly, so that training can be tried without any data on disk.

The class of a pixel is the outline of the shape it belongs to and nothing else: every shape, like the ground, takes a
random colour and a random texture, lies anywhere, somewhat tilted, and may be cut by the frame or by another shape. A
model that has learnt colours, that answers "background", or that finds the shapes without telling them apart stays far
below 0.5 mIoU; one that sees outlines reaches more than 0.9 (ENet in 500 steps of 16 samples).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from segctl.errors import DataError

from .pairs import check_split

__all__ = ["Shapes"]

_SPLIT_KEYS = {"train": 1, "val": 2, "test": 3}
_SHAPES = (2, 4)  # in an image, at least and at most (fewer where no place is found)
_CONTRAST = 110.0  # smallest distance between the mean colours of a shape and of all that lies below it, in RGB units
_TILT = np.radians(20)
_NOISE = 8.0  # standard deviation of each pixel's noise, in grey levels


class Shapes:
    """Rings, squares, triangles and crosses on a textured ground, drawn on the fly; needs no data on disk.

    A sample depends on (split, index, size) alone: it is the same in every process, run and data worker. Pixels
    within one pixel of a visible outline are ignored, as in PASCAL VOC.

    Args:
        size: Height and width of the images in pixels.
        samples: Images in the training split.
        eval_samples: Images in each of the splits val and test.
    """

    classes = ("background", "ring", "square", "triangle", "cross")
    palette = ((0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167))
    ignore_index = 255
    splits: Mapping[str, int | None] = {"train": None, "val": None, "test": None}
    train_split = "train"
    eval_split = "val"
    layout: tuple[str, ...] = ()
    licence = "Apache-2.0 (drawn by segctl)"

    def __init__(self, root: Path, split: str, *, size: int = 64, samples: int = 2000, eval_samples: int = 200) -> None:
        check_split("shapes", split, self.splits)
        if size < 32:
            raise DataError(
                f"shapes cannot be drawn on {size} x {size} pixels.", "The option `size` must be at least 32."
            )
        if min(samples, eval_samples) < 1:
            raise DataError(
                "shapes needs at least one sample in each split.", "Raise the options `samples` and `eval_samples`."
            )
        self.split = split
        self.size = size
        self._length = samples if split == "train" else eval_samples

    def __len__(self) -> int:
        return self._length

    def name(self, index: int) -> str:
        return f"{self.split}-{index:06d}"

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (size, size, 3) uint8 and mask (size, size) uint8 of class indices and 255."""
        if not 0 <= index < self._length:
            raise IndexError(index)
        # Philox is counter-based: a key of (split, index) gives each sample its own stream, without shared state.
        rng = np.random.Generator(np.random.Philox(key=np.array([_SPLIT_KEYS[self.split], index], dtype=np.uint64)))
        return _draw(rng, self.size)


def _draw(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0  # both axes run over -1..1
    x, y = axis[None, :], axis[:, None]
    pixel = 2.0 / size

    colors = [rng.uniform(30, 225, 3)]
    image = _surface(rng, colors[0], x, y)
    mask = np.zeros((size, size), np.uint8)
    placed: list[tuple[float, float, float]] = []
    for _ in range(rng.integers(*_SHAPES, endpoint=True)):
        place = _free_place(rng, placed)
        if place is None:
            break
        placed.append(place)
        colors.append(_contrasting_color(rng, colors))
        kind = int(rng.integers(1, len(Shapes.classes)))
        distance = _signed_distance(kind, x, y, *place, angle=rng.uniform(-_TILT, _TILT))
        inside = distance < 0
        image[inside] = _surface(rng, colors[-1], x, y)[inside]
        mask[inside] = kind
        mask[np.abs(distance) < pixel] = Shapes.ignore_index
    image += rng.standard_normal(image.shape, dtype=np.float32) * _NOISE
    return np.clip(image, 0, 255).astype(np.uint8), mask


def _free_place(
    rng: np.random.Generator, placed: list[tuple[float, float, float]]
) -> tuple[float, float, float] | None:
    """Centre and radius of a shape that hides part of the others at most, or None when the scene is full."""
    for _ in range(20):
        cx, cy, radius = rng.uniform(-0.75, 0.75), rng.uniform(-0.75, 0.75), rng.uniform(0.38, 0.6)
        if all(np.hypot(cx - ox, cy - oy) > 0.75 * (radius + other) for ox, oy, other in placed):
            return cx, cy, radius
    return None


def _contrasting_color(rng: np.random.Generator, others: list[np.ndarray]) -> np.ndarray:
    """A colour that can be told from all `others`: the first candidate that is far enough, else the farthest."""
    candidates = rng.uniform(30, 225, (24, 3))
    nearest = np.linalg.norm(candidates[:, None] - np.stack(others)[None], axis=2).min(axis=1)
    far_enough = np.flatnonzero(nearest >= _CONTRAST)
    return candidates[far_enough[0] if len(far_enough) else int(nearest.argmax())]


def _surface(rng: np.random.Generator, color: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(size, size, 3) float32: `color` under a slow shading and a finer wave of random direction, length and tint."""
    shading = rng.uniform(-20, 20) * x + rng.uniform(-20, 20) * y
    angle, frequency, phase = rng.uniform(0, np.pi), rng.uniform(4, 16), rng.uniform(0, 2 * np.pi)
    wave = np.sin(
        np.float32(frequency * np.cos(angle)) * x + np.float32(frequency * np.sin(angle)) * y + np.float32(phase)
    )
    tint = rng.uniform(-16, 16, 3).astype(np.float32)
    return color.astype(np.float32) + shading[..., None].astype(np.float32) + wave[..., None] * tint


def _signed_distance(
    kind: int, x: np.ndarray, y: np.ndarray, cx: float, cy: float, radius: float, *, angle: float
) -> np.ndarray:
    """(size, size) distance to the outline, negative inside, exact beside straight parts. The areas differ little."""
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    dx, dy = x - np.float32(cx), y - np.float32(cy)
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    name = Shapes.classes[kind]
    if name == "ring":
        return np.abs(np.hypot(u, v) - 0.68 * radius) - 0.26 * radius
    if name == "square":
        return np.maximum(np.abs(u), np.abs(v)) - 0.7 * radius
    if name == "triangle":
        slanted = np.float32(np.sqrt(0.75)) * np.abs(u) - 0.5 * v
        return np.maximum(slanted, v) - 0.6 * radius
    across, along = np.maximum(np.abs(u), np.abs(v)), np.minimum(np.abs(u), np.abs(v))
    return np.maximum(across - radius, along - 0.33 * radius)
