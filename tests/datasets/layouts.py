"""Small trees in the layout of each published data set, with contents that a test can state by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

Rows = Sequence[Sequence[int]]
BORDERED = ((0, 15), (255, 15))  # a mask of VOC: background, a person, a border


def photo(path: Path, size: tuple[int, int] = (2, 2), color: tuple[int, int, int] = (90, 120, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


def mask(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(rows, np.uint8)).save(path)


def lines(path: Path, *names: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


def voc(root: Path, train: Sequence[str], val: Sequence[str], test: Sequence[str] = ()) -> None:
    folder = root / "VOCdevkit" / "VOC2012"
    for name in (*train, *val):
        photo(folder / "JPEGImages" / f"{name}.jpg")
        mask(folder / "SegmentationClass" / f"{name}.png", BORDERED)
    for name in test:
        photo(folder / "JPEGImages" / f"{name}.jpg")
    for split, names in (("train", train), ("val", val), ("trainval", (*train, *val)), ("test", test)):
        if names:
            lines(folder / "ImageSets" / "Segmentation" / f"{split}.txt", *names)


def sbd(root: Path, train: Sequence[str], val: Sequence[str], rows: Rows = ((0, 20), (12, 0))) -> None:
    folder = root / "benchmark_RELEASE" / "dataset"
    for name in (*train, *val):
        photo(folder / "img" / f"{name}.jpg")
        (folder / "cls").mkdir(exist_ok=True)
        segmentation = {"Boundaries": np.zeros((20, 1)), "Segmentation": np.array(rows, np.uint8)}
        savemat(folder / "cls" / f"{name}.mat", {"GTcls": segmentation})
    lines(folder / "train.txt", *train)
    lines(folder / "val.txt", *val)
