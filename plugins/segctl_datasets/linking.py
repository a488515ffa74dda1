"""Archives that hold everything one folder too deep: what they hold is linked to where it is read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from segctl.errors import DataError, listing

__all__ = ["link_up"]


def link_up(root: Path, folder: str, needed: Sequence[str], progress: Callable[[int, int], None]) -> None:
    """Makes relative links in `root` to all that lies in its sub-folder `folder`; what is there already stays.

    Args:
        needed: What is read. These links are made last: where they are, all are.
        progress: Called with the number of links that were made, and of all that were lacking.

    Raises:
        DataError: There is no such sub-folder, nor is all of `needed` there without it.
    """
    if not (root / folder).is_dir():
        absent = [name for name in needed if not (root / name).exists()]
        if absent:
            raise DataError(
                f"There is no folder {root / folder}, nor is there {listing(absent)} in {root}.",
                f"Unpack the archive in {root}.",
            )
        return
    lacking = [name for name in os.listdir(root / folder) if not os.path.lexists(root / name)]
    for number, name in enumerate(sorted(lacking, key=lambda name: (name in needed, name)), 1):
        with contextlib.suppress(FileExistsError):  # another process may be at it, too
            os.symlink(f"{folder}/{name}", root / name)
        progress(number, len(lacking))
