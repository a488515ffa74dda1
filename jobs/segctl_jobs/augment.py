"""Random changes to one training sample: scale, crop, flip, colour, blur; all drawn from the generator given.

The crop is chosen first and only its pixels are resized; everything stays uint8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as color

from segctl.config.schema import Augment

CROP_TRIES = 10
BLUR = 5  # pixels, the side of the blur's kernel


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
    """Draws a training crop.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) integer class indices.
        generator: The only source of randomness.
        settings: Ranges and probabilities.
        ignore_index: Mask value of the padding where the scaled image does not fill the crop.
        fill: RGB of that padding.
        flip_pairs: Classes that change places when mirrored.

    Returns:
        (h, w, 3) uint8 and (h, w) of the mask's dtype (int64 where that cannot hold `ignore_index`), h and w being the
        crop's.
    """
    size = crop_size(settings.crop, *mask.shape)
    scale = generator.uniform(*settings.scale)
    window = _choose_window(mask, size, scale, generator, settings.max_class_share, ignore_index)
    pixels = _resize_image(
        image[window.top : window.top + window.height, window.left : window.left + window.width], window
    )
    labels = _resize_mask(
        mask[window.top : window.top + window.height, window.left : window.left + window.width], window
    )
    if generator.random() < settings.flip:
        pixels, labels = pixels.flip(1), _swap(labels[:, ::-1], flip_pairs)
    pixels = _recolor(pixels, generator, settings)
    return _place(pixels, labels, window, size, ignore_index, fill)


def _choose_window(
    mask: np.ndarray,
    size: tuple[int, int],
    scale: float,
    generator: np.random.Generator,
    max_class_share: float,
    ignore_index: int,
) -> Window:
    """Draws windows until no class covers more than `max_class_share` of the labelled pixels, ten times at most
    (mmsegmentation's and DeepLab's rule: most random crops of a street are road)."""
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
        if max_class_share >= 1 or _largest_share(mask, window, ignore_index) <= max_class_share:
            break
    return window


def _span(length: int, crop: int, scale: float) -> tuple[int, int]:
    """How many source pixels of `length` fill `crop` at `scale`, and how many pixels they become."""
    source = max(1, round(crop / scale))
    if source <= length:
        return source, crop
    return length, min(crop, max(1, round(length * scale)))


def _largest_share(mask: np.ndarray, window: Window, ignore_index: int) -> float:
    region = mask[window.top : window.top + window.height, window.left : window.left + window.width]
    counts = np.bincount(region[region != ignore_index])
    return float(counts.max() / counts.sum()) if counts.size else 1.0


def _resize_image(region: np.ndarray, window: Window) -> Tensor:
    pixels = torch.from_numpy(region.copy())
    if (window.height, window.width) == (window.scaled_height, window.scaled_width):
        return pixels
    planes = pixels.permute(2, 0, 1)[None]  # a channels-last view, for which torch resizes uint8 without converting
    size = (window.scaled_height, window.scaled_width)
    return F.interpolate(planes, size=size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)


def _resize_mask(region: np.ndarray, window: Window) -> np.ndarray:
    if (window.height, window.width) == (window.scaled_height, window.scaled_width):
        return region
    return region[np.ix_(_nearest(window.height, window.scaled_height), _nearest(window.width, window.scaled_width))]


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


def _recolor(pixels: Tensor, generator: np.random.Generator, settings: Augment) -> Tensor:
    """Photometric jitter (factors as in torchvision's ColorJitter) and Gaussian blur of an (h, w, 3) uint8 picture."""
    planes = pixels.permute(2, 0, 1)
    for adjust, amount in (
        (color.adjust_brightness, settings.brightness),
        (color.adjust_contrast, settings.contrast),
        (color.adjust_saturation, settings.saturation),
    ):
        if amount > 0:
            planes = adjust(planes, float(generator.uniform(1 - amount, 1 + amount)))
    if settings.hue > 0:
        planes = color.adjust_hue(planes, float(generator.uniform(-settings.hue, settings.hue)))
    if settings.blur > 0 and generator.random() < settings.blur and min(planes.shape[1:]) >= BLUR:
        planes = color.gaussian_blur(planes, [BLUR, BLUR], [float(generator.uniform(0.1, 2.0))])
    return planes.permute(1, 2, 0)


def _place(
    pixels: Tensor,
    labels: np.ndarray,
    window: Window,
    size: tuple[int, int],
    ignore_index: int,
    fill: tuple[int, int, int],
) -> tuple[Tensor, Tensor]:
    mask = torch.from_numpy(labels.copy())
    limits = torch.iinfo(mask.dtype)
    if not limits.min <= ignore_index <= limits.max:
        mask = mask.long()
    if (window.scaled_height, window.scaled_width) == size:
        return pixels, mask
    rows = slice(window.offset_y, window.offset_y + window.scaled_height)
    columns = slice(window.offset_x, window.offset_x + window.scaled_width)
    padded = torch.tensor(fill, dtype=torch.uint8).expand(*size, 3).clone()
    padded[rows, columns] = pixels
    padded_mask = torch.full(size, ignore_index, dtype=mask.dtype)
    padded_mask[rows, columns] = mask
    return padded, padded_mask
