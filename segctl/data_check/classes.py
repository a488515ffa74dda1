"""What a data set declares of its classes, and whether they occur."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from segctl.data_check.findings import Case
from segctl.plugin import DatasetInfo

__all__ = ["absent", "flip_faults", "unpaired_sides"]

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_OTHER_SIDE = {"left": "right", "right": "left"}


def flip_faults(info: DatasetInfo) -> Iterator[Case]:
    """Declared flip pairs that cannot be."""
    count = len(info.classes)
    seen: set[int] = set()
    for pair in info.flip_pairs:
        for index in pair:
            if not 0 <= index < count:
                yield Case("flip-pair", "", "", f"{pair} names class {index}, but classes are 0 to {count - 1}")
            elif index in seen:
                yield Case("flip-pair", "", "", f"{pair} names {info.classes[index]!r}, which another pair names, too")
            seen.add(index)


def unpaired_sides(info: DatasetInfo) -> Iterator[Case]:
    """Classes whose names differ in left and right alone, and that no flip pair joins."""
    index_of = {tuple(_words(name)): index for index, name in enumerate(info.classes)}
    declared = {frozenset(pair) for pair in info.flip_pairs}
    for words, index in index_of.items():
        other = index_of.get(tuple(_OTHER_SIDE.get(word, word) for word in words))
        if other is not None and other > index and frozenset((index, other)) not in declared:
            names = f"{info.classes[index]!r} and {info.classes[other]!r}"
            yield Case("left-right", "", "", f"{names} (classes {index} and {other}) change places in a mirrored image")


def _words(name: str) -> list[str]:
    """``["left", "arm"]`` for "Left-arm", "left_arm" and "leftArm"."""
    return [word.lower() for word in _WORD.findall(name)]


def absent(info: DatasetInfo, split: str, class_images: Sequence[int]) -> Iterator[Case]:
    """Classes that no mask of a split holds."""
    kind = "never-occurs" if split == info.train_split else "never-evaluated"
    for name, images in zip(info.classes, class_images, strict=True):
        if not images:
            yield Case(kind, split, "", f"{name!r} is in no mask")
