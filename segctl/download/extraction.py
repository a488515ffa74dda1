"""Writes the members of an archive into a folder of their own, each judged before it is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from segctl.download.contents import Contents, opened
from segctl.download.members import Bounds, Member, UnsafeError, clean_name, folded, hard_link_source, refuse_link
from segctl.download.space import Reserve, refuse_more
from segctl.download.stopping import Stop

__all__ = ["Extraction", "Report"]

Report = Callable[[int, int | None], None]

_CHUNK = 2**20
_LEFT_OUT = "__MACOSX"  # what macOS puts into zips beside the files


class Extraction:
    """One pass over an archive; files that an interrupted pass has left complete are not written again."""

    def __init__(self, archive: Path, into: Path, bounds: Bounds, report: Report, stop: Stop) -> None:
        self._archive, self._into, self._bounds, self._report, self._stop = archive, into, bounds, report, stop
        self._limit = bounds.bytes_of(archive.stat().st_size)
        self._case_matters = _case_matters(into)
        self._files: dict[tuple[str, ...], int] = {}
        self._links: set[tuple[str, ...]] = set()
        self._names: dict[str, tuple[str, ...]] = {}
        self._folders: set[tuple[str, ...]] = set()
        self._bytes = self._count = 0
        self._home = into.parent.parent
        self._reserve = Reserve(archive.name, self._home)

    def run(self) -> None:
        with opened(self._archive, self._bounds) as contents:
            # Where it does not say how much comes out, it is at least about as much as it has itself.
            self._refuse_without_room(contents.unpacked or self._archive.stat().st_size)
            for member in contents:
                self._stop.check()
                self._take(member)
                self._tell(contents)

    def _tell(self, contents: Contents) -> None:
        if contents.unpacked is not None:
            self._report(self._bytes, contents.unpacked)
        else:
            self._report(contents.place(), self._archive.stat().st_size)

    def _take(self, member: Member) -> None:
        self._count += 1
        if self._count > self._bounds.members:
            raise UnsafeError(f"more than {self._bounds.members:,} members")
        parts = clean_name(member.name)
        if not parts or parts[0] == _LEFT_OUT:
            return
        if member.kind == "other":
            raise UnsafeError(f"{member.name!r}, which is {member.what}")
        if any(parts[:depth] in self._links for depth in range(1, len(parts))):
            raise UnsafeError(f"{member.name!r}, which leads through a link")
        if member.kind == "folder":
            self._make_folders(parts)
            return
        self._make_folders(parts[:-1])
        if member.kind == "file":
            self._file(parts, member)
        elif member.kind == "link":
            self._link(parts, member.target)
        else:
            self._hard_link(parts, hard_link_source(parts, member.target, self._files))

    def _make_folders(self, parts: tuple[str, ...]) -> None:
        for depth in range(1, len(parts) + 1):
            folder = parts[:depth]
            if folder in self._folders:
                continue
            if folder in self._files or folder in self._links:
                raise UnsafeError(f"{'/'.join(folder)!r} as a file and as a folder")
            self._refuse_clash(folder)
            self._path(folder).mkdir(exist_ok=True)
            self._folders.add(folder)

    def _refuse_clash(self, parts: tuple[str, ...]) -> None:
        other = self._names.setdefault(folded(parts, case_matters=self._case_matters), parts)
        if other != parts:
            raise UnsafeError(f"{'/'.join(other)!r} and {'/'.join(parts)!r}, which are one name on this file system")

    def _path(self, parts: tuple[str, ...]) -> Path:
        return self._into.joinpath(*parts)

    def _file(self, parts: tuple[str, ...], member: Member) -> None:
        self._bytes += member.size
        if self._bytes > self._limit:
            raise UnsafeError(f"more than the {self._limit:,} bytes that an archive of its size may hold")
        assert member.open is not None
        if parts in self._folders or parts in self._links:
            raise UnsafeError(f"{'/'.join(parts)!r} twice, as different things")
        path = self._path(parts)
        if parts in self._files:
            with member.open() as content:
                if self._files[parts] != member.size or not _equal(path, content):
                    raise UnsafeError(f"{'/'.join(parts)!r} twice, with different contents")
            return
        self._refuse_clash(parts)
        self._files[parts] = member.size
        # A file has its full size only when its last byte was written, and checked where the archive has a checksum.
        if member.size > 0 and path.is_file() and path.stat().st_size == member.size:
            return
        path.unlink(missing_ok=True)
        self._write(path, member)

    def _write(self, path: Path, member: Member) -> None:
        assert member.open is not None
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        written = 0
        with member.open() as content, os.fdopen(os.open(path, flags, 0o666), "wb", buffering=0) as file:
            while data := content.read(_CHUNK):
                written += len(data)
                if written > member.size:
                    raise UnsafeError(f"{member.name!r}, which is longer than it says")
                self._reserve.writing(len(data))
                rest = memoryview(data)
                while rest:
                    rest = rest[file.write(rest) :]
                self._stop.check()
        if written < member.size:
            raise EOFError(f"{member.name} ends early")

    def _link(self, parts: tuple[str, ...], target: str) -> None:
        refuse_link(parts, target)
        path = self._path(parts)
        if parts in self._files or parts in self._folders or (parts in self._links and os.readlink(path) != target):
            raise UnsafeError(f"{'/'.join(parts)!r} twice, as different things")
        self._refuse_clash(parts)
        self._links.add(parts)
        path.unlink(missing_ok=True)
        os.symlink(target, path)

    def _hard_link(self, parts: tuple[str, ...], source: tuple[str, ...]) -> None:
        if parts == source:
            return
        if parts in self._files or parts in self._folders or parts in self._links:
            raise UnsafeError(f"{'/'.join(parts)!r} twice, as different things")
        self._refuse_clash(parts)
        self._files[parts] = self._files[source]
        path = self._path(parts)
        path.unlink(missing_ok=True)
        os.link(self._path(source), path)

    def _refuse_without_room(self, needed: int) -> None:
        there = sum(
            os.lstat(os.path.join(top, name)).st_size for top, _, names in os.walk(self._into) for name in names
        )
        refuse_more(self._archive.name, needed - there, self._home)


def _case_matters(folder: Path) -> bool:
    probe = folder / ".case"
    probe.touch()
    try:
        return not (folder / ".CASE").exists()
    finally:
        probe.unlink()


def _equal(path: Path, content: IO[bytes]) -> bool:
    with path.open("rb") as file:
        while True:
            one, other = file.read(_CHUNK), content.read(_CHUNK)
            if one != other:
                return False
            if not one:
                return True
