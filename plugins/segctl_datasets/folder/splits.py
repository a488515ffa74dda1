"""How a person's samples are divided: by split lists, by sub-folders, or by a hash of their names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segctl.errors import DataError, did_you_mean, listing
from segctl.plugin import tolerates_faults

from ..pairs import read_list

__all__ = ["SPLITS", "Splits", "find_splits"]

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Splits:
    """The splits that there are.

    Attributes:
        names: Split -> names of its samples, sorted or in the order of its list.
        how: What divides them. With lists, files that no list names do not matter; else each mask must have its image.
        notices: What was decided without being asked.
    """

    names: Mapping[str, tuple[str, ...]]
    how: str
    notices: tuple[str, ...] = ()


def find_splits(root: Path, images: Mapping[str, str], val_fraction: float) -> Splits:
    """Split lists beside ``images/`` count first, then sub-folders ``images/train`` and ``images/val``, then the hash.

    Args:
        root: The data set's folder.
        images: Name of each image -> its path below ``images/``.
        val_fraction: Share of the images that the hash gives to ``val``.

    Raises:
        DataError: A list names what does not exist or names it twice, a sub-folder is empty, or one image is to be
        divided.
    """
    lists = {split: root / f"{split}.txt" for split in SPLITS if (root / f"{split}.txt").is_file()}
    if lists:
        return _from_lists(lists, images)
    folders = [split for split in SPLITS if (root / "images" / split).is_dir()]
    if "train" in folders or "val" in folders:
        return _from_folders(root, folders, images)
    return _by_hash(root, images, val_fraction)


def _from_lists(lists: Mapping[str, Path], images: Mapping[str, str]) -> Splits:
    names = {split: _listed(path, images) for split, path in lists.items()}
    train = set(names.get("train", ()))
    shared = {split: len(train.intersection(listed)) for split, listed in names.items() if split != "train"}
    notices = [
        f"{count} of the {len(names[split])} samples in {split}.txt are in train.txt too: {split} says little then."
        for split, count in shared.items()
        if count
    ]
    return Splits(names, "lists", tuple(notices))


def _listed(path: Path, images: Mapping[str, str]) -> tuple[str, ...]:
    """A line is an image's name, with or without its extension and a leading ``images/``."""
    lines: dict[str, int] = {}
    names: list[str] = []
    name_of = {file: name for name, file in images.items()}
    for number, line in read_list(path):
        entry = line.removeprefix("./").removeprefix("images/")
        name = name_of.get(entry, entry)
        names.append(name)
        if tolerates_faults():
            continue
        if name not in images:
            hint = did_you_mean(entry, images) if len(images) < 10_000 else ""  # comparing with all takes time
            raise DataError(f"{path}:{number} lists {line!r}, but {path.parent / 'images'} holds no such image.", hint)
        if name in lines:
            raise DataError(f"{path}:{number} lists {line!r} a second time, after line {lines[name]}.", "List it once.")
        lines[name] = number
    return tuple(names)


def _from_folders(root: Path, folders: Sequence[str], images: Mapping[str, str]) -> Splits:
    names = {split: tuple(name for name in images if name.startswith(f"{split}/")) for split in folders}
    for split, inside in names.items():
        if not inside:
            raise DataError(f"{root / 'images' / split} holds no images.", "Fill or remove it.")
    unused = sum(name.split("/")[0] not in folders for name in images)
    beside = listing(f"images/{split}" for split in folders)
    return Splits(names, "folders", (f"{unused} images outside {beside} are not used.",) if unused else ())


def _by_hash(root: Path, images: Mapping[str, str], val_fraction: float) -> Splits:
    """Each image is placed by its own name, so images added later move no other one; but no split stays empty."""
    if len(images) < 2:
        raise DataError(
            f"{root / 'images'} holds one image, which cannot be divided into train and val.", "Add images."
        )
    ranked = sorted(images, key=lambda name: (_place(name), name))
    count = sum(_place(name) < val_fraction for name in images)
    val = set(ranked[: min(max(count, 1), len(images) - 1)])
    names = {
        "train": tuple(name for name in images if name not in val),
        "val": tuple(name for name in images if name in val),
    }
    return Splits(
        names,
        "hash",
        (
            f"{len(val)} of {len(images)} images are held out as val, by a hash of their names (val_fraction "
            f"{val_fraction:g} is the chance of each). Where pictures are frames of videos, or come in groups, write "
            "lists train.txt and val.txt beside images/: else there is the like of val in train.",
        ),
    )


def _place(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48
