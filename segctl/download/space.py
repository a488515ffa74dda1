"""Whether there is room for what is to come, looked at before anything is fetched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from segctl.download.plan import UNPACKED_RATIO, Item
from segctl.errors import DiskFullError

__all__ = ["demands", "refuse_without_room"]


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
                f"About {bytes_needed / 2**30:.1f} GiB are needed in {_existing(folders[0])}, archives and what is "
                f"unpacked of them; {free / 2**30:.1f} GiB are free.",
                "Make room, name fewer data sets, or another folder with --data-root.",
            )


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
