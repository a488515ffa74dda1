"""Random changes to one training sample: scale, crop, flip, colour, blur; all drawn from the generator given.

The crop is chosen first and only its pixels are resized; everything stays uint8. What a GPU does faster is left to
`looks.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from segctl.config.schema import Augment
from segctl_jobs.looks import Look, apply_looks, draw_look

CROP_TRIES = 10


@dataclass(frozen=True)
class Window:
    """A region of the source, its size after scaling, and its place in the crop; all in pixels."""

    top: int
    left: int
    height: int
    width: int
    scaled_height: int
    scaled_width: int
    offset_y: int
    offset_x: int

    @property
    def bottom(self) -> int:
        """How many rows of the source are enough."""
        return self.top + self.height

    def of(self, source: np.ndarray) -> np.ndarray:
        """The region of an image or a mask, as a view."""
        return source[self.top : self.bottom, self.left : self.left + self.width]


def crop_size(crop: tuple[int, int] | int | None, height: int, width: int) -> tuple[int, int]:
    if crop is None:
        return height, width
    return (crop, crop) if isinstance(crop, int) else crop


def augment(
    image: np.ndarray,
    mask: np.ndarray,
    generator: np.random.Generator,
    settings: Augment,
    *,
    ignore_index: int,
    fill: tuple[int, int, int],
    flip_pairs: tuple[tuple[int, int], ...] = (),
) -> tuple[Tensor, Tensor]:
    """Draws a training crop, and all of its look; arguments and results are those of `take_crop`."""
    window = choose_window(mask, generator, settings, ignore_index)
    pixels, labels, look = take_crop(
        image, mask, window, generator, settings, ignore_index=ignore_index, fill=fill, flip_pairs=flip_pairs
    )
    apply_looks(pixels.permute(2, 0, 1)[None], [look])
    return pixels, labels


def take_crop(
    image: np.ndarray,
    mask: np.ndarray,
    window: Window,
    generator: np.random.Generator,
    settings: Augment,
    *,
    ignore_index: int,
    fill: tuple[int, int, int],
    flip_pairs: tuple[tuple[int, int], ...] = (),
) -> tuple[Tensor, Tensor, Look]:
    """Cuts out a window and resizes it; draws how it is to look.

    Args:
        image: (H, W, 3) uint8 RGB; rows below the window may be missing.
        mask: (H, W) integer class indices.
        window: See `choose_window`.
        generator: The only source of randomness.
        settings: Ranges and probabilities.
        ignore_index: Mask value of the padding where the scaled image does not fill the crop.
        fill: RGB of that padding.
        flip_pairs: Classes that change places when mirrored.

    Returns:
        (h, w, 3) uint8, not yet mirrored or coloured; (h, w) of the mask's dtype (int64 where that cannot hold
        `ignore_index`), complete; and the look. h and w are the crop's.
    """
    look = draw_look(
        generator,
        settings,
        top=window.offset_y,
        left=window.offset_x,
        height=window.scaled_height,
        width=window.scaled_width,
    )
    pixels = _resize_image(window.of(image), window)
    labels = _resize_mask(window.of(mask), window, look.mirrored)
    if look.mirrored:
        labels = _swap(labels, flip_pairs)
    return *_place(pixels, labels, window, crop_size(settings.crop, *mask.shape), ignore_index, fill), look


def choose_window(mask: np.ndarray, generator: np.random.Generator, settings: Augment, ignore_index: int) -> Window:
    """Draws a scale, then windows until no class covers more than `max_class_share` of the labelled pixels, ten times
    at most (mmsegmentation's and DeepLab's rule: most random crops of a street are road)."""
    size = crop_size(settings.crop, *mask.shape)
    scale = generator.uniform(*settings.scale)
    share = settings.max_class_share
    height, width = mask.shape
    rows, out_rows = _span(height, size[0], scale)
    columns, out_columns = _span(width, size[1], scale)
    for _ in range(CROP_TRIES):
        window = Window(
            top=int(generator.integers(height - rows + 1)),
            left=int(generator.integers(width - columns + 1)),
            height=rows,
            width=columns,
            scaled_height=out_rows,
            scaled_width=out_columns,
            offset_y=int(generator.integers(size[0] - out_rows + 1)),
            offset_x=int(generator.integers(size[1] - out_columns + 1)),
        )
        if share >= 1 or _largest_share(window.of(mask), ignore_index) <= share:
            break
    return window


def _span(length: int, crop: int, scale: float) -> tuple[int, int]:
    """How many source pixels of `length` fill `crop` at `scale`, and how many pixels they become."""
    source = max(1, round(crop / scale))
    if source <= length:
        return source, crop
    return length, min(crop, max(1, round(length * scale)))


def _largest_share(region: np.ndarray, ignore_index: int) -> float:
    if region.dtype == np.uint8:
        counts = np.array(Image.fromarray(region).histogram())  # three times as fast as counting with numpy
        if 0 <= ignore_index < counts.size:
            counts[ignore_index] = 0
    else:
        counts = np.bincount(region[region != ignore_index])
    return float(counts.max() / counts.sum()) if counts.any() else 1.0


def _resize_image(region: np.ndarray, window: Window) -> Tensor:
    pixels = torch.from_numpy(region.copy())
    if (window.height, window.width) == (window.scaled_height, window.scaled_width):
        return pixels
    planes = pixels.permute(2, 0, 1)[None]  # a channels-last view, for which torch resizes uint8 without converting
    size = (window.scaled_height, window.scaled_width)
    return F.interpolate(planes, size=size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)


def _resize_mask(region: np.ndarray, window: Window, mirrored: bool) -> np.ndarray:
    """A copy, resized, and mirrored on the way."""
    rows, columns = _nearest(window.height, window.scaled_height), _nearest(window.width, window.scaled_width)
    # Row by row, then column by column: four times as fast as both at once.
    return region[rows][:, columns[::-1] if mirrored else columns]


def _nearest(source: int, target: int) -> np.ndarray:
    """For each target pixel's centre the source pixel in which it lies."""
    return np.minimum(((np.arange(target) + 0.5) * (source / target)).astype(np.int64), source - 1)


def _swap(labels: np.ndarray, flip_pairs: tuple[tuple[int, int], ...]) -> np.ndarray:
    if not flip_pairs:
        return labels
    swapped = labels.copy()
    for a, b in flip_pairs:
        swapped[labels == a] = b
        swapped[labels == b] = a
    return swapped


def _place(
    pixels: Tensor,
    labels: np.ndarray,
    window: Window,
    size: tuple[int, int],
    ignore_index: int,
    fill: tuple[int, int, int],
) -> tuple[Tensor, Tensor]:
    mask = torch.from_numpy(labels)
    limits = torch.iinfo(mask.dtype)
    if not limits.min <= ignore_index <= limits.max:
        mask = mask.long()
    if (window.scaled_height, window.scaled_width) == size:
        return pixels, mask
    rows = slice(window.offset_y, window.offset_y + window.scaled_height)
    columns = slice(window.offset_x, window.offset_x + window.scaled_width)
    one_row = torch.tensor(fill, dtype=torch.uint8).repeat(size[1])
    padded = one_row.expand(size[0], -1).clone().view(*size, 3)  # much faster than pixel by pixel
    padded[rows, columns] = pixels
    padded_mask = torch.full(size, ignore_index, dtype=mask.dtype)
    padded_mask[rows, columns] = mask
    return padded, padded_mask
