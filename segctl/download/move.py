"""Moves what was unpacked to its place, where the user may have files of his own."""

from __future__ import annotations

import errno
import filecmp
import itertools
import os
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from segctl.download.stopping import Stop

__all__ = ["Move"]


class Move:
    """Moves a tree to where another may be already; whole folders at once where there is nothing yet.

    Args:
        source: Is empty afterwards.
        home: Where to.
        aside: Takes what is there and differs.
        last: Paths that are moved after all others beside them.
        stop: Ends it between two entries; another call goes on.
    """

    def __init__(self, source: Path, home: Path, aside: Path, last: Sequence[PurePosixPath], stop: Stop) -> None:
        self._source, self._home, self._aside, self._stop = source, home, aside, stop
        self._last = {each.parts for path in last for each in (path, *path.parents)}
        self._replaced = 0

    def run(self) -> int:
        """Returns how many files that were others it has put aside."""
        self._folder(())
        return self._replaced

    def _folder(self, parts: tuple[str, ...]) -> None:
        names = os.listdir(self._source.joinpath(*parts))
        for name in sorted(names, key=lambda name: ((*parts, name) in self._last, name)):
            self._stop.check()
            self._entry((*parts, name))

    def _entry(self, parts: tuple[str, ...]) -> None:
        source, target = self._source.joinpath(*parts), self._home.joinpath(*parts)
        is_folder = source.is_dir() and not source.is_symlink()
        if not os.path.lexists(target):
            self._rename(source, target, parts, is_folder=is_folder)
        elif is_folder and target.is_dir():
            self._folder(parts)
            source.rmdir()
        elif is_folder or target.is_dir() or not _same(source, target):
            kept = _unused(self._aside.joinpath(*parts))
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(target, kept)
            self._rename(source, target, parts, is_folder=is_folder)
            self._replaced += 1
        else:
            source.unlink()

    def _rename(self, source: Path, target: Path, parts: tuple[str, ...], *, is_folder: bool) -> None:
        try:
            os.rename(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:  # somebody's link leads to another file system
                raise
            if is_folder:
                target.mkdir()
                self._folder(parts)
                source.rmdir()
            else:
                temporary = target.with_name(f".{target.name}.download")
                shutil.copy2(source, temporary, follow_symlinks=False)
                os.replace(temporary, target)
                source.unlink()


def _unused(path: Path) -> Path:
    """`path`, or ``path.2`` and so on where an earlier call has put something aside there."""
    others = (path.with_name(f"{path.name}.{number}") for number in itertools.count(2))
    return next(each for each in itertools.chain([path], others) if not os.path.lexists(each))


def _same(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and os.readlink(one) == os.readlink(other)
    return filecmp.cmp(one, other, shallow=False)
