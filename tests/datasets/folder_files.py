"""Images and masks as a person has them in a folder, for the tests of the data set `folder`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from segctl_datasets.folder import Folder

RED, GREEN, BLACK, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 0), (255, 255, 255)
ROWS = [[0, 1, 2], [0, 1, 255]]  # of a mask


def write_mask(path: Path, rows, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.array(rows, np.uint8))
    if mode == "P":
        picture.putpalette([7, 77, 177] * 256)
    picture.save(path)


def write_image(path: Path, size: tuple[int, int] = (3, 2), **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (1, 2, 3)).save(path, **options)


def make(root: Path, masks: Mapping[str, object], *, image_suffix: str = ".jpg", mode: str = "L") -> Path:
    """Masks by name; the images beside them are 3 x 2."""
    for name, rows in masks.items():
        write_image(root / "images" / f"{name}{image_suffix}")
        write_mask(root / "masks" / f"{name}.png", rows, mode)
    return root


def names(dataset: Folder) -> list[str]:
    return [dataset.name(index) for index in range(len(dataset))]
