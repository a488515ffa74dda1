"""What only shows between samples: the same picture twice, in one split or in two; names; files that nothing uses."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segctl.data_check.findings import Case
from segctl.data_check.sample import Seen, files_of

__all__ = ["Samples", "lone_files", "repeated", "shared"]

_MEASURED = re.compile(r"(^|[^a-z])(val|test|eval|dev)")  # in the name of a split that one measures on


@dataclass
class Samples:
    """What is kept of a split's samples, by index.

    Attributes:
        name: The split's.
        names: The samples' names.
        files: Paths of image and mask below the data's root, or None where the data set does not say.
        images: Digests of the images' content, or None.
        masks: Digests of the masks' content, or None.
    """

    name: str
    names: list[str] = field(default_factory=list)
    files: list[tuple[str, str] | None] = field(default_factory=list)
    images: list[bytes | None] = field(default_factory=list)
    masks: list[bytes | None] = field(default_factory=list)

    def add(self, dataset: Any, start: int, seen: Sequence[Seen]) -> None:
        for index, each in enumerate(seen, start):
            self.names.append(str(dataset.name(index)))
            self.files.append(files_of(dataset, index))
            self.images.append(each.image)
            self.masks.append(each.mask)

    def file(self, index: int) -> str:
        """What the sample's image is called in a message."""
        files = self.files[index]
        return files[0] if files else self.names[index]


def repeated(samples: Samples) -> Iterator[Case]:
    """Samples of a split that are there twice, and names that two have."""
    first: dict[object, int] = {}
    for index, image in enumerate(samples.images):
        files = samples.files[index]
        listed = first.setdefault(files, index) if files else index
        if listed != index:
            yield Case("listed-twice", samples.name, samples.file(index), f"is sample {listed} and sample {index}")
            continue
        other = first.setdefault(image, index) if image else index
        if other == index:
            continue
        file = samples.file(other)
        if samples.masks[index] == samples.masks[other] or None in (samples.masks[index], samples.masks[other]):
            yield Case("duplicate", samples.name, samples.file(index), f"is the same picture as {file}")
        else:
            what = f"is the same picture as {file}, but their masks differ"
            yield Case("contradiction", samples.name, samples.file(index), what)
    yield from _same_names(samples)


def _same_names(samples: Samples) -> Iterator[Case]:
    first: dict[str, int] = {}
    for index, name in enumerate(samples.names):
        other = first.setdefault(name, index)
        if other != index and (samples.files[index] is None or samples.files[index] != samples.files[other]):
            what = f"has the name {name!r}, as has {samples.file(other)}"
            yield Case("same-name", samples.name, samples.file(index), what)


def shared(one: Samples, other: Samples, *, trained: str, evaluated: str, asked: bool) -> Iterator[Case]:
    """Pictures that two splits share, and names that stand for different pictures.

    Sharing is a leak where the one is the split to train on and the other the one to evaluate on, or called val or
    test; or where the user named both. Of others it is worth a warning if one of them is made to measure on, unless it
    has all of the other one's files, as trainval has.

    Args:
        one: A split.
        other: Another one.
        trained: Name of the split that is trained on.
        evaluated: Name of the split that is evaluated.
        asked: The user named both.
    """
    if one.name != trained and other.name == trained:
        one, other = other, one
    where: dict[bytes, int] = {}
    for index, image in enumerate(one.images):
        if image is not None:
            where.setdefault(image, index)
    pairs = [(where[image], index) for index, image in enumerate(other.images) if image in where]
    leak = asked or (one.name == trained and (other.name == evaluated or other.name.startswith(("val", "test"))))
    measured = any(each.name == evaluated or _MEASURED.search(each.name.lower()) for each in (one, other))
    if pairs and (leak or (measured and not _holds_the_other(one, other))):
        for mine, theirs in pairs:
            same_file = one.files[mine] is not None and one.files[mine] == other.files[theirs]
            known = f"is in {other.name}, too"
            as_what = known if same_file else f"{known}, as {other.file(theirs)}"
            yield Case("leak" if leak else "overlap", one.name, one.file(mine), as_what)
    yield from _names_shared(one, other)


def _holds_the_other(one: Samples, other: Samples) -> bool:
    """Whether all files of one of the splits are files of the other one."""
    mine, theirs = set(one.files), set(other.files)
    return None not in mine | theirs and (mine <= theirs or theirs <= mine)


def _names_shared(one: Samples, other: Samples) -> Iterator[Case]:
    where = {name: index for index, name in enumerate(one.names)}
    for index, name in enumerate(other.names):
        mine = where.get(name)
        if mine is None or (one.images[mine] is not None and one.images[mine] == other.images[index]):
            continue
        if one.files[mine] is None or one.files[mine] != other.files[index]:
            what = f"has the name {name!r}, as has {one.file(mine)} in {one.name}"
            yield Case("same-name", other.name, other.file(index), what)


def lone_files(root: Path, splits: Sequence[Samples], *, whole: bool) -> Iterator[Case]:
    """Files beside those of the samples that look like masks without images, or like pairs that nobody uses.

    Args:
        root: The data's.
        splits: All that were opened.
        whole: These are all splits that there are; else nothing is said of pairs that they do not use.
    """
    found = [(name, *each) for split in splits for name, each in zip(split.names, split.files, strict=True) if each]
    used = {path for _, *files in found for path in files}
    pairs = [each for each in found if each[2]]
    image_ends, mask_ends = ({_ending(each[kind], each[0]) for each in pairs} for kind in (1, 2))
    folders = {(os.path.dirname(image), os.path.dirname(mask)) for _, image, mask in pairs}
    for image_folder, mask_folder in sorted(folders):
        images = {stem: file for file in _listed(root, image_folder) if (stem := _stem(file, image_ends)) is not None}
        for file in _listed(root, mask_folder):
            path, stem = os.path.join(mask_folder, file), _stem(file, mask_ends)
            if path in used or stem is None:
                continue
            if stem not in images:
                yield Case("lone-mask", "", path, "has no image of its name")
            elif whole and os.path.join(image_folder, images[stem]) not in used:
                yield Case("unused", "", path, "and its image are in no split")


def _ending(path: str, name: str) -> str:
    """What a file's name has after the sample's name: ``_gtFine_labelIds.png``, ``.jpg``."""
    file, stem = os.path.basename(path), os.path.basename(name)
    return file.removeprefix(stem) if file.startswith(stem) and file != stem else os.path.splitext(file)[1]


def _stem(file: str, endings: Collection[str]) -> str | None:
    """The sample's name that a file stands for; None where it has none of the endings."""
    found = [ending for ending in endings if ending and file.endswith(ending)]
    return file.removesuffix(max(found, key=len)) if found else None


def _listed(root: Path, folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(root / folder) if not name.startswith("."))
    except OSError:
        return []
