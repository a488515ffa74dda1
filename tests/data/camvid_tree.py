"""A tree of CamVid's full layout with made-up frames, and faults to plant in it, each with how a check must call it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SPLITS = {"train": 367, "val": 101, "test": 233}  # as published
WIDTH, HEIGHT = 40, 36


def picture(seed: int) -> np.ndarray:
    """(HEIGHT, WIDTH, 3) uint8: a picture that no other seed gives."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def labels(seed: int) -> np.ndarray:
    """(HEIGHT, WIDTH) uint8: all classes from 0 to 10 and the ignored 11, a stripe of each."""
    return np.repeat(np.roll(np.arange(12, dtype=np.uint8), seed), HEIGHT // 12)[:, None].repeat(WIDTH, axis=1)


def few_labels() -> np.ndarray:
    """The same without the last class, for faults beside the one that it never occurs."""
    return np.where(labels(0) == 10, 0, labels(0)).astype(np.uint8)


def make(root: Path) -> Path:
    seed = 0
    for split, count in SPLITS.items():
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir(parents=True)
        for number in range(count):
            seed += 1
            name = f"{split}_{number:03d}.png"
            Image.fromarray(picture(seed)).save(root / split / name)
            Image.fromarray(labels(seed)).save(root / f"{split}annot" / name)
        lines = [
            f"/SegNet/CamVid/{split}/{split}_{number:03d}.png /SegNet/CamVid/{split}annot/{split}_{number:03d}.png\n"
            for number in range(count)
        ]
        (root / f"{split}.txt").write_text("".join(lines))
    return root


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def _replace_labels(path: Path, values: np.ndarray | int, **options: object) -> None:
    Image.fromarray(np.full((HEIGHT, WIDTH), values, np.uint8)).save(path, **options)


def _resave(source: Path, target: Path) -> None:
    """The same pixels in other bytes."""
    with Image.open(source) as file:
        file.save(target, format="PNG", compress_level=0)
    assert target.read_bytes() != source.read_bytes()


def _wrong_value(root: Path) -> None:
    values = few_labels()
    values[5, 7:10] = 200
    _replace_labels(root / "trainannot" / "train_007.png", values)


def _no_bicyclist(root: Path) -> None:
    for path in sorted((root / "trainannot").iterdir()):
        with Image.open(path) as file:
            values = np.array(file)
        values[values == 10] = 0
        Image.fromarray(values).save(path)


def _turned(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(9000)).save(root / "val" / "val_008.png", format="JPEG", exif=exif)


def _another_name(root: Path) -> None:
    for folder in ("train", "val"):
        (root / folder / f"{folder}_020.png").rename(root / folder / "frame.png")
        (root / f"{folder}annot" / f"{folder}_020.png").rename(root / f"{folder}annot" / "frame.png")
        listed = root / f"{folder}.txt"
        listed.write_text(listed.read_text().replace(f"{folder}_020.png", "frame.png"))


def _listed_twice(root: Path) -> None:
    lines = (root / "test.txt").read_text().splitlines(keepends=True)
    (root / "test.txt").write_text("".join([*lines[:-1], lines[3]]))
    for folder in ("test", "testannot"):
        (root / folder / "test_232.png").unlink()


def _fewer(root: Path) -> None:
    """A split list that lost its last line, with its files."""
    lines = (root / "val.txt").read_text().splitlines(keepends=True)
    (root / "val.txt").write_text("".join(lines[:-1]))
    for folder in ("val", "valannot"):
        (root / folder / "val_100.png").unlink()


# What is done to the tree, and the kind and file of the finding that must tell of it.
FAULTS: list[tuple[str, str, Callable[[Path], object]]] = [
    ("never-occurs", "", _no_bicyclist),
    ("missing-image", "train/train_000.png", lambda root: (root / "train/train_000.png").unlink()),
    ("missing-mask", "valannot/val_001.png", lambda root: (root / "valannot/val_001.png").unlink()),
    ("lone-mask", "trainannot/lost.png", lambda root: _replace_labels(root / "trainannot/lost.png", few_labels())),
    ("unreadable-image", "train/train_002.png", lambda root: _cut(root / "train/train_002.png")),
    ("unreadable-image", "train/train_003.png", lambda root: (root / "train/train_003.png").write_text("404")),
    ("unreadable-mask", "trainannot/train_004.png", lambda root: _cut(root / "trainannot/train_004.png")),
    (
        "size-mismatch",
        "trainannot/train_005.png",
        lambda root: Image.fromarray(few_labels()[:-1]).save(root / "trainannot/train_005.png"),
    ),
    ("mask-value", "trainannot/train_007.png", _wrong_value),
    ("all-ignored", "trainannot/train_008.png", lambda root: _replace_labels(root / "trainannot/train_008.png", 11)),
    (
        "blank-image",
        "train/train_009.png",
        lambda root: Image.new("RGB", (WIDTH, HEIGHT)).save(root / "train/train_009.png"),
    ),
    (
        "lossy-mask",
        "valannot/val_010.png",
        lambda root: _replace_labels(root / "valannot/val_010.png", 3, format="JPEG"),
    ),
    (
        "contradiction",
        "train/train_012.png",
        lambda root: _resave(root / "train/train_011.png", root / "train/train_012.png"),
    ),
    ("leak", "train/train_013.png", lambda root: shutil.copy(root / "val/val_013.png", root / "train/train_013.png")),
    ("leak", "train/train_014.png", lambda root: _resave(root / "val/val_014.png", root / "train/train_014.png")),
    ("turned", "val/val_008.png", _turned),
    ("same-name", "val/frame.png", _another_name),
    ("listed-twice", "test/test_003.png", _listed_twice),
    ("incomplete", "", _fewer),
]
