"""Archives that hold everything one folder too deep: what they hold is linked to where it is read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from segctl.errors import DataError

__all__ = ["link_up"]


def link_up(root: Path, folder: str, last: Sequence[str], progress: Callable[[int, int], None]) -> None:
    """Makes relative links in `root` to all that lies in its sub-folder `folder`; what is there already stays.

    Args:
        last: Entries whose links tell that all are made.
        progress: Called with the number of entries done, and of all.

    Raises:
        DataError: There is no such sub-folder.
    """
    if not (root / folder).is_dir():
        raise DataError(f"There is no folder {root / folder}.", f"Unpack the archive in {root}.")
    entries = sorted(os.listdir(root / folder), key=lambda name: (name in last, name))
    for number, entry in enumerate(entries, 1):
        with contextlib.suppress(FileExistsError):
            os.symlink(f"{folder}/{entry}", root / entry)
        progress(number, len(entries))
