"""The members of tar and zip archives, one after another, in one form."""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from segctl.download.members import Bounds, Member, UnsafeError

__all__ = ["DAMAGED", "Contents", "opened"]

# What the standard library raises for bytes that are no archive. Besides its own errors there are those of numbers and
# names that are none (ValueError, UnicodeError among it), of a kind of compression that is not known (RuntimeError),
# and of fields that end early or are too large.
DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, gzip.BadGzipFile, struct.error),
    *(EOFError, RuntimeError, ValueError, ArithmeticError, LookupError, MemoryError),
)

_LONGEST_HEADER = 2**24  # bytes that are read at once: a header of more is a bomb
_LONGEST_TARGET = 4096


class Contents:
    """An archive that is being read.

    Attributes:
        unpacked: Bytes that come out, where the archive says so beforehand.
        place: Says how many bytes of the archive have been read.
    """

    def __init__(self, members: Iterator[Member], unpacked: int | None, place: Callable[[], int]) -> None:
        self._members, self.unpacked, self.place = members, unpacked, place

    def __iter__(self) -> Iterator[Member]:
        return self._members


@contextmanager
def opened(archive: Path, bounds: Bounds) -> Iterator[Contents]:
    """Opens an archive by what it is, whatever its name.

    Raises:
        UnsafeError: It says itself that more comes out than `bounds` allow.
        tarfile.ReadError: It is neither tar nor zip.
        OSError: It cannot be read.
    """
    if _begins_like_a_zip(archive):
        with zipfile.ZipFile(archive) as file:
            infos = file.infolist()
            unpacked = sum(info.file_size for info in infos)
            _refuse_too_much(unpacked, len(infos), archive, bounds)
            yield Contents((_zip_member(file, info) for info in infos), unpacked, lambda: 0)
        return
    with archive.open("rb") as raw:
        stream = _Bounded(_decompressed(raw), bounds.bytes_of(archive.stat().st_size))
        with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]
            yield Contents(_tar_members(tar), None, raw.tell)


def _begins_like_a_zip(archive: Path) -> bool:
    # Not zipfile.is_zipfile, which looks at the end: there a tar may hold a zip.
    with archive.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _refuse_too_much(unpacked: int, members: int, archive: Path, bounds: Bounds) -> None:
    limit = bounds.bytes_of(archive.stat().st_size)
    if unpacked > limit:
        raise UnsafeError(f"{unpacked:,} bytes, which is more than the {limit:,} that an archive of its size may hold")
    if members > bounds.members:
        raise UnsafeError(f"{members:,} members, which is more than {bounds.members:,}")


def _zip_member(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    name = info.filename.replace("\\", "/") if info.create_system == 0 else info.filename
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
    if info.flag_bits & 1:
        return Member(name, "other", what="encrypted")
    if kind == stat.S_IFLNK:
        if info.file_size > _LONGEST_TARGET:
            raise UnsafeError(f"{name!r}, a link whose target is no path")
        return Member(name, "link", target=file.read(info).decode("utf-8", "surrogateescape"))
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return Member(name, "other", what="a device or a pipe")
    if info.is_dir() or kind == stat.S_IFDIR:
        return Member(name, "folder")
    return Member(name, "file", size=info.file_size, open=partial(file.open, info))


def _tar_members(tar: tarfile.TarFile) -> Iterator[Member]:
    before = -1
    while (info := tar.next()) is not None:
        if info.size < 0 or info.offset <= before:  # else it would be read in a circle
            raise tarfile.ReadError(f"{info.name!r} has no size")
        before = info.offset
        yield _tar_member(tar, info)
        tar.members = []  # type: ignore[attr-defined]  # else it keeps them all


def _tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    if info.isreg():
        return Member(info.name, "file", size=info.size, open=lambda: _content(tar, info))
    if info.isdir():
        return Member(info.name, "folder")
    if info.issym():
        return Member(info.name, "link", target=info.linkname)
    if info.islnk():
        return Member(info.name, "hard link", target=info.linkname)
    return Member(info.name, "other", what="a device or a pipe")


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(info)
    if content is None:
        raise tarfile.ReadError(f"{info.name} has no content")
    return content


def _decompressed(raw: IO[bytes]) -> Any:
    start = raw.read(6)
    raw.seek(0)
    if start[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=raw)
    if start[:3] == b"BZh":
        return bz2.BZ2File(raw)
    return lzma.LZMAFile(raw) if start == b"\xfd7zXZ\x00" else raw


class _Bounded:
    """A decompressed stream that does not give more than `limit` bytes, nor very many at once."""

    def __init__(self, stream: Any, limit: int) -> None:
        self._stream, self._limit = stream, limit
        self.seek, self.tell = self._seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > _LONGEST_HEADER:
            raise UnsafeError(f"a header of {size:,} bytes")
        data: bytes = self._stream.read(size)
        self._refuse_beyond(self.tell())
        return data

    def _seek(self, offset: int, whence: int = 0) -> int:
        self._refuse_beyond(offset)
        if offset < 0:
            raise tarfile.ReadError("a member has no size")
        place: int = self._stream.seek(offset, whence)
        return place

    def _refuse_beyond(self, place: int) -> None:
        if place > self._limit:
            raise UnsafeError(f"more than the {self._limit:,} bytes that an archive of its size may hold")
