"""Pictures that leave segctl: masks as palette PNGs, and overlays with a legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from segctl.plugin import DatasetInfo
from segctl.runs.files import replacing

__all__ = [
    "Entry",
    "class_shares",
    "edges",
    "hatching",
    "is_ours",
    "legend",
    "legend_entries",
    "mask_picture",
    "overlay_picture",
    "save_png",
    "stays_clear",
]

OPACITY = 0.55
SMALLEST_OVERLAY, LARGEST_OVERLAY = 640, 4096  # the longer side in pixels, without the legend
INK, PALE_INK, PAPER = (33, 37, 41), (108, 117, 125), (255, 255, 255)
Color = tuple[int, int, int]


class Entry(NamedTuple):
    """A line of a legend; what has no colour is hatched."""

    name: str
    color: Color | None
    share: float


def mask_picture(mask: np.ndarray, info: DatasetInfo) -> Image.Image:
    """A mask of class indices in the data set's own label values.

    Args:
        mask: ``(H, W)`` class indices.
        info: Its `labels` are the values written (the class indices where it declares none), its `palette` their
        colours.

    Returns:
        A palette picture of the same size; 16-bit grey, which has no palette, where a value is beyond 255.
    """
    values = np.asarray(info.labels or range(len(info.classes)))
    if values.max(initial=0) > 255:
        return Image.fromarray(values.astype(np.uint16)[mask])
    picture = Image.fromarray(values.astype(np.uint8)[mask]).convert("P")
    palette = np.zeros((256, 3), np.uint8)
    palette[values] = info.palette
    picture.putpalette(palette.tobytes())
    return picture


def class_shares(mask: np.ndarray, info: DatasetInfo) -> dict[int, float]:
    """For each class that occurs, its share of the pixels; the largest first."""
    counts = np.bincount(mask.reshape(-1), minlength=len(info.classes))
    order = np.argsort(-counts, kind="stable")
    return {int(index): float(counts[index] / mask.size) for index in order if counts[index]}


def overlay_picture(image: np.ndarray, mask: np.ndarray, info: DatasetInfo) -> Image.Image:
    """The photograph under the colours of its classes, above a legend of those that occur.

    A class named background stays clear. Small pictures are enlarged and very large ones reduced, so that picture and
    legend are both readable; the mask itself has the photograph's size.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        mask: ``(H, W)`` class indices.
    """
    tinted = _tinted(image, mask, info)
    unit = max(15, round(max(tinted.size) / 50))
    panel = legend(legend_entries(class_shares(mask, info), info), max(tinted.width, SMALLEST_OVERLAY // 2), unit)
    picture = Image.new("RGB", (max(tinted.width, panel.width), tinted.height + panel.height), PAPER)
    picture.paste(tinted, ((picture.width - tinted.width) // 2, 0))
    picture.paste(panel, (0, tinted.height))
    return picture


def _tinted(image: np.ndarray, mask: np.ndarray, info: DatasetInfo) -> Image.Image:
    height, width = mask.shape
    size = _overlay_size(width, height)
    enlarged = size[0] > width
    photo = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC if enlarged else Image.Resampling.LANCZOS)
    rows = (np.arange(size[1]) * height) // size[1]
    columns = (np.arange(size[0]) * width) // size[0]
    mask = mask[rows[:, None], columns]  # the nearest pixel: a class has no values in between
    colors = np.asarray(info.palette, np.uint8)
    clear = np.array([stays_clear(name) for name in info.classes])
    blended = Image.blend(photo, Image.fromarray(colors[mask]), OPACITY)
    blended.paste(photo, mask=Image.fromarray((clear[mask] * 255).astype(np.uint8)))
    outlines = edges(mask, thickness=max(1, round(max(size) / 800)))
    blended.paste(Image.new("RGB", size, PAPER), mask=Image.fromarray((outlines * 150).astype(np.uint8)))
    return blended


def stays_clear(name: str) -> bool:
    """Whether a class is shown by the photograph alone."""
    return name.lower() == "background"


def _overlay_size(width: int, height: int) -> tuple[int, int]:
    longer = max(width, height)
    if longer < SMALLEST_OVERLAY:
        factor = -(-SMALLEST_OVERLAY // longer)  # a whole number, so that all pixels stay squares of one size
        return width * factor, height * factor
    scale = min(1.0, LARGEST_OVERLAY / longer)
    return max(1, round(width * scale)), max(1, round(height * scale))


def edges(mask: np.ndarray, thickness: int) -> np.ndarray:
    """Where a neighbour, at most `thickness` pixels to the right or below, is of another class."""
    found = np.zeros(mask.shape, bool)
    for step in range(1, thickness + 1):
        found[:, :-step] |= mask[:, :-step] != mask[:, step:]
        found[:-step] |= mask[:-step] != mask[step:]
    return found


def hatching(height: int, width: int, pitch: int) -> np.ndarray:
    """(height, width) bool: diagonal stripes, each half as wide as they are apart."""
    return (np.add.outer(np.arange(height), np.arange(width)) % pitch) < pitch // 2


def legend_entries(shares: Mapping[int, float], info: DatasetInfo) -> list[Entry]:
    """A line for each class of `shares`, by class index, in its order."""
    return [
        Entry(info.classes[index], PAPER if stays_clear(info.classes[index]) else info.palette[index], share)
        for index, share in shares.items()
    ]


def legend(entries: Sequence[Entry], width: int, unit: int) -> Image.Image:
    """A panel with a swatch, the name and the share of each entry, in columns.

    Args:
        entries: From top to bottom, then from left to right.
        width: Of the panel, in pixels.
        unit: The height of a capital and a bit, in pixels.
    """
    font = ImageFont.load_default(unit)
    gap, swatch, line = unit, round(unit * 1.1), round(unit * 1.9)
    share_width = round(font.getlength("100.0 %"))
    widest = width - 3 * gap - swatch - gap // 2 - share_width
    texts = [(_shortened(entry.name, font, widest), _percent(entry.share)) for entry in entries]
    name_width = round(max(font.getlength(name) for name, _ in texts))
    cell = swatch + gap // 2 + name_width + gap + share_width + 2 * gap
    columns = max(1, min(len(texts), (width + gap) // cell))
    rows = -(-len(texts) // columns)
    panel = Image.new("RGB", (width, rows * line + gap), PAPER)
    draw = ImageDraw.Draw(panel)
    for position, (entry, (name, percent)) in enumerate(zip(entries, texts, strict=True)):
        column, row = divmod(position, rows)
        left, middle = gap + column * cell, gap // 2 + row * line + line // 2
        box = (left, middle - swatch // 2, left + swatch, middle - swatch // 2 + swatch)
        if entry.color is None:
            stripes = hatching(swatch, swatch, max(4, swatch // 3))
            panel.paste(PALE_INK, (box[0], box[1]), Image.fromarray((stripes * 255).astype(np.uint8)))
        outline = {"radius": 0 if entry.color is None else swatch // 5, "outline": INK, "width": max(1, unit // 16)}
        draw.rounded_rectangle(box, fill=entry.color, **outline)
        text_left = left + swatch + gap // 2
        draw.text((text_left, middle), name, fill=INK, font=font, anchor="lm")
        draw.text((text_left + name_width + gap + share_width, middle), percent, fill=PALE_INK, font=font, anchor="rm")
    return panel


def _shortened(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    if font.getlength(name) <= width:
        return name
    while name and font.getlength(f"{name}...") > width:
        name = name[:-1]
    return f"{name}..."


def _percent(share: float) -> str:
    percent = 100 * share
    return "< 0.1 %" if percent < 0.05 else f"{percent:.1f} %" if percent < 99.95 else "100 %"


def save_png(picture: Image.Image, path: Path) -> None:
    """Writes a PNG atomically; its folder is made.

    Raises:
        OSError: The folder cannot be written or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    signed = PngImagePlugin.PngInfo()
    signed.add_text("Software", "segctl")
    with replacing(path) as file:
        picture.save(file, format="PNG", pnginfo=signed)


def is_ours(path: Path) -> bool:
    """Whether `save_png` wrote this file, so that it may be replaced."""
    try:
        with Image.open(path) as picture:
            return picture.info.get("Software") == "segctl"
    except (OSError, SyntaxError, ValueError):
        return False
