"""Whether there is room for what is to come, looked at before anything is fetched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from segctl.download.plan import UNPACKED_RATIO, Item
from segctl.errors import DiskFullError

__all__ = ["MAKE_ROOM", "Reserve", "demands", "refuse_more", "refuse_without_room"]

MAKE_ROOM = "Make room and run the same command again: it goes on where it stopped."

_SPARE_BYTES = 2**26  # that stay free on the disk
_LOOK_BYTES = 2**24  # written between two looks at what is free


def refuse_more(what: str, needed: int, folder: Path) -> None:
    """Raises DiskFullError where `folder` has no room for `needed` more bytes of something, and a reserve."""
    free = shutil.disk_usage(folder).free
    if needed > 0 and needed + _SPARE_BYTES > free:
        raise DiskFullError(
            f"{what} needs {_told(needed)} more in {folder}, where {_told(free)} are free and "
            f"{_told(_SPARE_BYTES)} are to stay so.",
            MAKE_ROOM,
        )


class Reserve:
    """Ends the writing of something before the disk is full, which others write to as well.

    Args:
        what: In words.
        folder: Where it is written.
    """

    def __init__(self, what: str, folder: Path) -> None:
        self._what, self._folder = what, folder
        self._left = 0

    def writing(self, size: int) -> None:
        """Called before so many bytes are written. Raises DiskFullError."""
        self._left -= size
        if self._left < 0:
            refuse_more(self._what, size, self._folder)
            self._left = _LOOK_BYTES


def demands(
    items: Sequence[Item], here: Mapping[str, int], archives: Path, *, keep: bool, at_once: int
) -> dict[Path, int]:
    """Bytes that will be needed in each folder at the worst moment, as far as sizes are published: a pure function.

    Args:
        items: What is to be fetched and unpacked.
        here: Bytes of each, by its key, that are on disk already.
        archives: Where they are fetched to.
        keep: They stay when they are unpacked.
        at_once: How many are worked on at a time.
    """
    sizes = {item.key: item.archive.size or 0 for item in items}
    fetched = sorted((max(0, size - here.get(key, 0)) for key, size in sizes.items()), reverse=True)
    needed = {archives: sum(fetched if keep else fetched[:at_once])}
    for item in items:
        for target in item.targets:
            needed[target.root] = needed.get(target.root, 0) + int(UNPACKED_RATIO * sizes[item.key])
    return needed


def refuse_without_room(needed: Mapping[Path, int]) -> None:
    """Raises DiskFullError where folders of one file system need more than it has."""
    together: dict[int, list[Path]] = {}
    for folder in needed:
        together.setdefault(os.stat(_existing(folder)).st_dev, []).append(folder)
    for folders in together.values():
        free = shutil.disk_usage(_existing(folders[0])).free
        bytes_needed = sum(needed[folder] for folder in folders)
        if bytes_needed > free:
            raise DiskFullError(
                f"About {_told(bytes_needed)} are needed in {_existing(folders[0])}, archives and what is "
                f"unpacked of them; {_told(free)} are free.",
                "Make room, name fewer data sets, or another folder with --data-root.",
            )


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _told(size: float) -> str:
    """Bytes for people: ``1.2 GiB``, ``64.0 MiB``, ``0.5 KiB``."""
    unit, name = next(((unit, name) for unit, name in ((2**30, "GiB"), (2**20, "MiB")) if size >= unit), (2**10, "KiB"))
    return f"{size / unit:.1f} {name}"
