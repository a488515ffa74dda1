"""A sheet of samples: as stored, under the colours of their classes, and as training would get them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segctl.config.schema import Config
from segctl.errors import DataError, did_you_mean
from segctl.plugin import DatasetInfo, SegmentationDataset
from segctl_jobs.augment import augment
from segctl_jobs.build import open_split
from segctl_jobs.data import check_pair, epoch_order, sample_generator
from segctl_jobs.pictures import (
    INK,
    OPACITY,
    PALE_INK,
    PAPER,
    Entry,
    edges,
    hatching,
    is_ours,
    legend,
    legend_entries,
    save_png,
    stays_clear,
)

__all__ = ["Sheet", "draw_sheet"]

CELL = 320  # pixels, the width of a picture
MARGIN, GAP, BETWEEN = 36, 6, 24  # around the sheet, between a picture and its mask, between the steps
TITLE, TEXT = 28, 17  # font sizes
BESIDE = 3  # samples in a row where each is one picture with its mask
HATCH = 10  # pixels between two stripes
MOUNT = (233, 236, 239)  # behind a picture that does not fill its cell
_NAMED = 10_000  # comparing a misspelt name with more takes time


@dataclass(frozen=True)
class Sheet:
    """What was drawn.

    Attributes:
        names: The samples', from top to bottom.
        shares: Of each class that occurs in their masks, its share of the pixels, the largest first.
        ignored: The share of ignored pixels.
    """

    names: tuple[str, ...]
    shares: Mapping[str, float]
    ignored: float


@dataclass(frozen=True)
class Pane:
    """A picture with its mask.

    Attributes:
        image: (H, W, 3) uint8.
        mask: (H, W) class indices.
        name: What stands above it; the sample's where it is as stored.
        heading: What stands above its column.
    """

    image: np.ndarray
    mask: np.ndarray
    name: str = ""
    heading: str = ""


def draw_sheet(config: Config, split: str, names: Sequence[str], count: int, draws: int | None, out: Path) -> Sheet:
    """Draws samples of a data set into a PNG: a row for each, before and after augmentation.

    Args:
        config: Names the data set, the augmentation and the seed.
        split: The split.
        names: Of the samples; none: `count` of them, drawn with the seed.
        count: How many, where they are not named.
        draws: How often each is augmented: as in the first epochs of a training with that seed. Default: twice in the
            training split, elsewhere not at all.
        out: The PNG. A file that segctl has not written is not replaced.

    Raises:
        DataError: The data are missing or faulty, there is no such sample, or `out` is somebody's file.
    """
    if out.exists() and not is_ours(out):
        raise DataError(f"{out} is there already, and not a sheet of segctl's.", "Name another file with -o.")
    dataset, info = open_split(config, split, training=True)
    draws = (2 if split == info.train_split else 0) if draws is None else draws
    indices = _named(dataset, names, split) if names else _drawn(config.seed, len(dataset), count)
    rows = [_panes(dataset, info, config, index, draws) for index in indices]
    stored = [row[0] for row in rows]
    shares, ignored = _shares([pane.mask for pane in stored], info)
    if not draws:  # several samples fit beside each other
        rows = [stored[start : start + BESIDE] for start in range(0, len(stored), BESIDE)]
    entries = _entries(rows, (shares, ignored), info)
    panel = legend(entries, _width(max(map(len, rows))) - 2 * (MARGIN - TEXT), TEXT)
    save_png(_sheet(_title(config, split, len(dataset)), rows, panel, info), out)
    names = tuple(pane.name for pane in stored)
    return Sheet(names, {info.classes[index]: share for index, share in shares.items()}, ignored)


def _drawn(seed: int, length: int, count: int) -> list[int]:
    generator = np.random.Generator(np.random.Philox(key=[seed, 2**32]))
    return sorted(generator.choice(length, min(count, length), replace=False).tolist())


def _named(dataset: SegmentationDataset, names: Sequence[str], split: str) -> list[int]:
    index_of = {dataset.name(index): index for index in range(len(dataset))}
    for name in names:
        if name not in index_of:
            near = did_you_mean(name, index_of) if len(index_of) <= _NAMED else ""
            raise DataError(f"{split} has no sample {name!r}.", near or f"Its first is {next(iter(index_of))!r}.")
    return [index_of[name] for name in names]


def _panes(dataset: SegmentationDataset, info: DatasetInfo, config: Config, index: int, draws: int) -> list[Pane]:
    """A sample as it is stored, then as it comes in the first epochs of a training."""
    image, mask = dataset[index]
    check_pair(image, mask, info, dataset.name(index))
    panes = [Pane(image, mask, dataset.name(index), "as stored" if draws else "")]
    red, green, blue = (round(255 * channel) for channel in config.input.mean)
    for epoch in range(draws):
        (place,) = np.flatnonzero(epoch_order(config.seed, epoch, len(dataset)) == index)
        pixels, labels = augment(
            image,
            mask,
            sample_generator(config.seed, epoch * len(dataset) + int(place)),
            config.augment,
            ignore_index=info.ignore_index,
            fill=(red, green, blue),
            flip_pairs=info.flip_pairs,
        )
        panes.append(Pane(pixels.numpy(), labels.numpy(), heading=f"augmented, epoch {epoch + 1}"))
    return panes


def _shares(masks: Sequence[np.ndarray], info: DatasetInfo) -> tuple[dict[int, float], float]:
    """Of each class that occurs its share of all pixels, the largest first; and that of ignored ones."""
    pixels = sum(mask.size for mask in masks)
    counts = sum(np.bincount(mask[mask != info.ignore_index], minlength=len(info.classes)) for mask in masks)
    order = np.argsort(-counts, kind="stable")
    shares = {int(index): float(counts[index] / pixels) for index in order if counts[index]}
    return shares, float(1 - counts.sum() / pixels)


def _title(config: Config, split: str, samples: int) -> tuple[str, str]:
    """What is shown, and how it is augmented: what always matters, and what is not as by default."""
    settings = config.augment
    shown = {"crop", "scale", "flip", *settings.model_dump(exclude_defaults=True)}
    words = [f"{name} {_value(name, value)}" for name, value in settings if name in shown]
    amount = f"{samples} sample{'' if samples == 1 else 's'}"
    return f"{config.dataset.name}: {split}, {amount}", f"augmentation: {', '.join(words)}"


def _value(name: str, value: object) -> str:
    if isinstance(value, tuple):
        return (" x " if name == "crop" else " to ").join(f"{each:g}" for each in value)
    return "none" if value is None else f"{value:g}" if isinstance(value, (int, float)) else str(value)


# ---- drawing


def _sheet(
    title: tuple[str, str], rows: Sequence[Sequence[Pane]], panel: Image.Image, info: DatasetInfo
) -> Image.Image:
    """Rows of panes, each below its name, with a legend at the bottom; `panel` is as wide as `_width` says."""
    cell = (CELL, _cell_height([pane for row in rows for pane in row]))
    columns = max(len(row) for row in rows)
    text, line = ImageFont.load_default(TEXT), 2 * TEXT
    headings = [pane.heading for pane in rows[0]]
    head = MARGIN + round(1.5 * TITLE) + (2 * line + TEXT // 2 if any(headings) else 0)
    step = line + cell[1] + BETWEEN // 2
    sheet = Image.new("RGB", (_width(columns), head + len(rows) * step + panel.height + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), title[0], fill=INK, font=ImageFont.load_default(TITLE), anchor="lt")
    if any(headings):
        draw.text((MARGIN, MARGIN + round(1.5 * TITLE)), title[1], fill=PALE_INK, font=text, anchor="lt")
    for number, row in enumerate(rows):
        top = head + number * step + line
        for column, pane in enumerate(row):
            left = MARGIN + column * (2 * cell[0] + GAP + BETWEEN)
            if number == 0:
                draw.text((left, head - round(1.3 * TEXT)), pane.heading, fill=INK, font=text, anchor="lt")
            draw.text((left, top - TEXT // 2), pane.name, fill=PALE_INK, font=text, anchor="ls")
            sheet.paste(_photo(pane, cell), (left, top))
            sheet.paste(_tinted(pane, cell, info), (left + cell[0] + GAP, top))
    sheet.paste(panel, (MARGIN - TEXT, head + len(rows) * step))
    return sheet


def _width(columns: int) -> int:
    return 2 * MARGIN + columns * (2 * CELL + GAP) + (columns - 1) * BETWEEN


def _entries(
    rows: Sequence[Sequence[Pane]], found: tuple[Mapping[int, float], float], info: DatasetInfo
) -> list[Entry]:
    """A line for each class on the sheet, and for what is ignored: in the masks, or beside a crop."""
    shares, ignored = found
    hatched = any((pane.mask == info.ignore_index).any() for row in rows for pane in row)
    return [*legend_entries(shares, info), *([Entry("ignored", None, ignored)] if hatched else [])]


def _cell_height(panes: Sequence[Pane]) -> int:
    """As most pictures want it, within limits."""
    aspect = float(np.median([pane.mask.shape[0] / pane.mask.shape[1] for pane in panes]))
    return round(CELL * min(max(aspect, 0.4), 1.25))


def _fitted(mask: np.ndarray, cell: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a picture that fills its cell in one direction at least."""
    height, width = mask.shape
    scale = min(cell[0] / width, cell[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _mounted(picture: Image.Image, cell: tuple[int, int]) -> Image.Image:
    if picture.size == cell:
        return picture
    mount = Image.new("RGB", cell, MOUNT)
    mount.paste(picture, ((cell[0] - picture.width) // 2, (cell[1] - picture.height) // 2))
    return mount


def _photo(pane: Pane, cell: tuple[int, int]) -> Image.Image:
    return _mounted(_resized_photo(pane, _fitted(pane.mask, cell)), cell)


def _resized_photo(pane: Pane, size: tuple[int, int]) -> Image.Image:
    enlarged = size[0] > pane.mask.shape[1]
    return Image.fromarray(pane.image).resize(size, Image.Resampling.BICUBIC if enlarged else Image.Resampling.LANCZOS)


def _tinted(pane: Pane, cell: tuple[int, int], info: DatasetInfo) -> Image.Image:
    """The photograph under the colours of its classes; what is ignored is hatched."""
    size = _fitted(pane.mask, cell)
    photo = _resized_photo(pane, size)
    height, width = pane.mask.shape
    rows, columns = (np.arange(size[1]) * height) // size[1], (np.arange(size[0]) * width) // size[0]
    mask = pane.mask[rows[:, None], columns].astype(np.int64)  # the nearest pixel: classes have no values in between
    ignored = mask == info.ignore_index
    mask[ignored] = len(info.classes)
    colors = np.asarray([*info.palette, (128, 128, 128)], np.uint8)
    opacity = np.asarray([0.0 if stays_clear(name) else OPACITY for name in info.classes] + [0.75])
    blended = Image.composite(Image.fromarray(colors[mask]), photo, _alpha(opacity[mask]))
    stripes = ignored & hatching(*mask.shape, HATCH)
    blended.paste(PAPER, mask=_alpha(stripes * 0.8))
    blended.paste(PAPER, mask=_alpha(edges(mask, 1) * 0.8))  # tells apart what the colours do not
    return _mounted(blended, cell)


def _alpha(share: np.ndarray) -> Image.Image:
    return Image.fromarray(np.round(share * 255).astype(np.uint8))
