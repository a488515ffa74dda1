"""Pictures that leave segctl: masks as palette PNGs, overlays with a legend; and photographs on their way in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from segctl.plugin import DatasetInfo
from segctl.runs.files import replacing

__all__ = ["mask_picture", "save_png"]


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


def save_png(picture: Image.Image, path: Path) -> None:
    """Writes a PNG atomically; its folder is made.

    Raises:
        OSError: The folder cannot be written or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        picture.save(file, format="PNG")
