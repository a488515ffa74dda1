"""From one photograph to one mask, whatever its size: whole or in windows, over scales and mirrored, in bounded memory.

One image at a time: a batch would make the numbers depend on what else is in it, and an evaluation on N processes would
no longer be that on one.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from segctl.config import schema
from segctl.errors import DeviceMemoryError, PluginError
from segctl.plugin import SMALLEST_SIDE
from segctl_jobs import watchdog

__all__ = ["is_tiled", "logits_of", "normalize", "pixels_at_once", "predict_mask", "window_starts"]


def normalize(images: torch.Tensor, input: schema.Input) -> torch.Tensor:
    """``(x / 255 - mean) / std`` on the tensor's own device.

    Args:
        images: ``(..., 3, H, W)`` uint8 RGB.
        input: Mean and standard deviation of each channel, for values in 0..1.

    Returns:
        float32 of the same shape and memory format.
    """
    factor, offset = _affine(tuple(input.mean), tuple(input.std), images.device)
    return images.to(torch.float32).mul_(factor).add_(offset)


@functools.lru_cache(maxsize=16)
def _affine(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    # Kept on the device: a copy from the host in each training step would wait for the device.
    factor = torch.tensor([1 / (255 * s) for s in std], dtype=torch.float32, device=device)
    offset = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], dtype=torch.float32, device=device)
    return factor.view(3, 1, 1), offset.view(3, 1, 1)


def logits_of(outputs: object) -> torch.Tensor:
    """The logits among what a model returns: the tensor itself, or the entry ``"out"`` of a dict."""
    logits = outputs.get("out") if isinstance(outputs, dict) else outputs
    if not isinstance(logits, torch.Tensor):
        raise PluginError(
            f"The model returned {type(outputs).__name__}, which holds no logits.",
            'A model returns a tensor (N, C, H, W) or a dict whose "out" is one.',
        )
    return logits


@torch.no_grad()
def predict_mask(
    model: nn.Module,
    image: np.ndarray,
    *,
    num_classes: int,
    settings: schema.Evaluation,
    input: schema.Input,
    device: torch.device,
    amp: torch.dtype | None = None,
    flip_pairs: Sequence[tuple[int, int]] = (),
) -> np.ndarray:
    """Predicts the class of every pixel at the image's own resolution.

    Probabilities (softmax) are averaged over windows that overlap, over ``settings.scales`` and over the mirrored
    image. An image for which that takes more than ``settings.max_pixels`` pixels at once is predicted in tiles of about
    that many, each with a margin that is cut off again, so that memory is bounded by the tile and by the number of
    classes.

    Args:
        model: In evaluation mode, on `device`; maps ``(1, 3, h, w)`` float32 to logits ``(1, C, h, w)`` or a dict with
            ``"out"``.
        image: ``(H, W, 3)`` uint8 RGB.
        amp: The dtype of autocast; None: off.
        flip_pairs: Classes that change places in a mirrored image.

    Returns:
        ``(H, W)``, uint8 (int32 beyond 256 classes).

    Raises:
        PluginError: The model's output is not of the promised shape.
        DeviceMemoryError: The GPU's memory is too small.
    """
    predictor = _Predictor(model, num_classes, settings, input, device, amp, _mirrored(num_classes, flip_pairs))
    height, width = image.shape[:2]
    mask = np.empty((height, width), _mask_type(num_classes))
    try:
        for tile in _tiles(height, width, settings):
            mask[tile.core] = predictor.tile(image[tile.outer])[tile.core_in_outer]
    except torch.cuda.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"The GPU's memory is too small to predict an image of {width}x{height} pixels.",
            f"Lower eval.max_pixels (it is {settings.max_pixels}), or use eval.mode slide with a smaller window.",
        ) from error
    return mask


# --- Where the windows are: pure functions ---


def window_starts(length: int, window: int, overlap: float) -> tuple[int, ...]:
    """Where windows of `window` pixels start so that they cover `length` pixels.

    Neighbours share at least the fraction `overlap` of a window; the last one is shifted back inside. A length that
    fits into one window has a single start at 0.
    """
    if length <= window:
        return (0,)
    stride = max(1, math.floor(window * (1 - overlap)))
    starts = list(range(0, length - window, stride))
    return (*starts, length - window)


def is_tiled(height: int, width: int, settings: schema.Evaluation) -> bool:
    """Whether an image of this size is predicted in tiles to bound memory."""
    return pixels_at_once(height, width, settings) > settings.max_pixels


def pixels_at_once(height: int, width: int, settings: schema.Evaluation) -> float:
    """The pixels whose probabilities are held at once: the whole image, or the band of rows that windows span."""
    if settings.mode == "whole":
        return height * width * max(1.0, *settings.scales) ** 2
    tallest = max(_extent(_pair(settings.window)[0], scale) for scale in settings.scales)
    return min(height, tallest) * width


@dataclass(frozen=True)
class _Tile:
    """A part of an image that is predicted by itself: `outer` goes in, `core` (without the margins) is kept."""

    outer: tuple[slice, slice]
    core: tuple[slice, slice]

    @property
    def core_in_outer(self) -> tuple[slice, slice]:
        rows, columns = (
            slice(core.start - outer.start, core.stop - outer.start)
            for core, outer in zip(self.core, self.outer, strict=True)
        )
        return rows, columns


def _tiles(height: int, width: int, settings: schema.Evaluation) -> Iterator[_Tile]:
    if not is_tiled(height, width, settings):
        everything = (slice(0, height), slice(0, width))
        yield _Tile(everything, everything)
        return
    limit = max(1, int(settings.max_pixels / max(1.0, *settings.scales) ** 2))
    rows = min(height, math.isqrt(limit))
    columns = min(width, max(1, limit // rows))
    rows = min(height, max(1, limit // columns))  # what a narrow image leaves of the width goes into the height
    for outer_rows, core_rows in _spans(height, rows):
        for outer_columns, core_columns in _spans(width, columns):
            yield _Tile((outer_rows, outer_columns), (core_rows, core_columns))


def _spans(length: int, window: int) -> Iterator[tuple[slice, slice]]:
    """Windows along one axis with the part of each that is kept: neighbours meet in the middle of what they share."""
    starts = window_starts(length, window, overlap=0.25)
    edges = [
        0,
        *((start + window + following) // 2 for start, following in itertools.pairwise(starts)),
        length,
    ]
    for index, start in enumerate(starts):
        yield slice(start, min(length, start + window)), slice(edges[index], edges[index + 1])


@dataclass(frozen=True)
class _Window:
    """A part of a tile that the network sees at once, in one scale, with the weight of each of its rows and columns."""

    top: int
    left: int
    height: int
    width: int
    scale: float
    row_weight: np.ndarray
    column_weight: np.ndarray


def _windows(height: int, width: int, settings: schema.Evaluation) -> list[_Window]:
    """All windows of all scales, from top to bottom.

    A scale's window is the part of the unscaled image that becomes ``settings.window`` pixels in that scale. The
    weights of all windows sum to 1 in every pixel; they factor into rows and columns because the windows form a grid.
    """
    windows = []
    for scale in settings.scales:
        if settings.mode == "whole":
            size = (height, width)
        else:
            asked = _pair(settings.window)
            size = (min(height, _extent(asked[0], scale)), min(width, _extent(asked[1], scale)))
        tops, lefts = window_starts(height, size[0], settings.overlap), window_starts(width, size[1], settings.overlap)
        row_weight = _weights(height, size[0], tops) / len(settings.scales)
        column_weight = _weights(width, size[1], lefts)
        windows += [
            _Window(top, left, *size, scale, row_weight[top : top + size[0]], column_weight[left : left + size[1]])
            for top in tops
            for left in lefts
        ]
    return sorted(windows, key=lambda window: window.top)


def _weights(length: int, window: int, starts: Sequence[int]) -> np.ndarray:
    """For each pixel along an axis, one over the number of windows that cover it."""
    count = np.zeros(length, np.float32)
    for start in starts:
        count[start : start + window] += 1
    return 1 / count


def _extent(window: int, scale: float) -> int:
    return max(1, round(window / scale))


def _pair(value: tuple[int, int] | int) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _mirrored(num_classes: int, flip_pairs: Sequence[tuple[int, int]]) -> list[int] | None:
    """For each class the one whose probability it takes from the mirrored image; None: its own."""
    order = list(range(num_classes))
    for first, second in flip_pairs:
        order[first], order[second] = second, first
    return order if flip_pairs else None


# --- What the network says of them ---


@dataclass(frozen=True)
class _Predictor:
    model: nn.Module
    num_classes: int
    settings: schema.Evaluation
    input: schema.Input
    device: torch.device
    amp: torch.dtype | None
    mirrored: list[int] | None

    def tile(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        windows = _windows(height, width, self.settings)
        if len(windows) == 1 and not self.settings.flip and windows[0].scale == 1:
            return self.most_probable(self.logits(self.upload(image))[0])
        return self.averaged(image, windows)

    def averaged(self, image: np.ndarray, windows: list[_Window]) -> np.ndarray:
        """The most probable class of the weighted mean over windows.

        Only a band of rows of probabilities is held: it starts at the row where the next window starts, above which all
        is decided.
        """
        height, width = image.shape[:2]
        mask = np.empty((height, width), _mask_type(self.num_classes))
        band = torch.zeros(self.num_classes, max(window.height for window in windows), width, device=self.device)
        first = 0
        for window in windows:
            if window.top > first:
                done = window.top - first
                mask[first : window.top] = self.most_probable(band[:, :done])
                band = _scrolled(band, done)
                first = window.top
            self.add(band[:, window.top - first :], image, window)
        mask[first:] = self.most_probable(band[:, : height - first])
        return mask

    def add(self, band: torch.Tensor, image: np.ndarray, window: _Window) -> None:
        pixels = self.upload(image[window.top : window.top + window.height, window.left : window.left + window.width])
        where = band[:, : window.height, window.left : window.left + window.width]
        views = (False, True) if self.settings.flip else (False,)
        weight = torch.from_numpy(window.row_weight[:, None] * window.column_weight / len(views)).to(self.device)
        for mirror in views:
            where.addcmul_(self.probabilities(pixels, window, mirror)[0], weight)

    def probabilities(self, pixels: torch.Tensor, window: _Window, mirror: bool) -> torch.Tensor:
        size = (window.height, window.width)
        scaled = [max(1, round(side * window.scale)) for side in size]
        if window.scale != 1:
            pixels = F.interpolate(
                pixels, size=scaled, mode="bilinear", align_corners=False, antialias=window.scale < 1
            )
        logits = self.logits(pixels.flip(-1) if mirror else pixels)
        result = logits.softmax(dim=1)
        del logits
        if mirror:
            result = result.flip(-1)
            result = result if self.mirrored is None else result[:, self.mirrored]
        if window.scale != 1:
            result = F.interpolate(result, size=size, mode="bilinear", align_corners=False)
        return result

    def upload(self, image: np.ndarray) -> torch.Tensor:
        """``(H, W, 3)`` uint8 on the host to ``(1, 3, H, W)`` float32 on the device; a quarter of the bytes travel."""
        # np.require copies what is read-only, such as a memory-mapped or decoded picture, which torch would warn about.
        tensor = torch.from_numpy(np.require(image, np.uint8, ["C", "W"])).to(self.device, non_blocking=True)
        tensor = tensor.permute(2, 0, 1).unsqueeze(0)  # its memory is already channels last
        return normalize(tensor, self.input)

    def most_probable(self, scores: torch.Tensor) -> np.ndarray:
        """``(C, h, w)`` scores to ``(h, w)`` classes; the first of several equal ones."""
        classes = scores.max(dim=0).indices  # on a CPU several times as fast as argmax along this axis
        return classes.to(torch.uint8 if self.num_classes <= 256 else torch.int32).cpu().numpy()

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """``(1, C, h, w)`` float32 logits of normalised pixels; a very small image is filled up with the mean (0)."""
        height, width = pixels.shape[-2:]
        missing = (max(0, SMALLEST_SIDE - width), max(0, SMALLEST_SIDE - height))
        if any(missing):
            pixels = F.pad(pixels, (0, missing[0], 0, missing[1]))
        with torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None):
            logits = logits_of(self.model(pixels))
        watchdog.beat()  # a large image on a CPU may take longer than a job is given to move on
        expected = (1, self.num_classes, *pixels.shape[-2:])
        if tuple(logits.shape) != expected:
            raise PluginError(
                f"The model returned logits of shape {tuple(logits.shape)} for an input of {tuple(pixels.shape)}.",
                f"Expected {expected}: one channel for each class, at the size of the image.",
            )
        return logits[..., :height, :width].float()


def _mask_type(num_classes: int) -> type[np.integer]:
    return np.uint8 if num_classes <= 256 else np.int32


def _scrolled(band: torch.Tensor, rows: int) -> torch.Tensor:
    """The band moved down by `rows`, its new rows zero; class by class, so that no second band is needed."""
    kept = band.shape[1] - rows
    for plane in band:
        if kept > 0:
            plane[:kept] = plane[rows:].clone()
        plane[max(0, kept) :] = 0
    return band
