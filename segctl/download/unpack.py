"""Unpacks an archive beside its place and then moves it there, so that what is half done never looks finished.

``<root>/.download`` holds, for an archive with the key K and the checksum C: ``K-C.unpacking/`` while it is unpacked,
``K.ready/`` from when all of it is there until all of it has been moved, and ``K.json`` when it is done. A second call
goes on in each of these.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segctl.download.contents import DAMAGED, Contents, opened
from segctl.download.members import Bounds, Member, UnsafeError, clean_name, folded, hard_link_source, refuse_link
from segctl.download.space import Reserve, refuse_more
from segctl.download.stopping import Stop
from segctl.errors import DiskFullError, DownloadError, listing
from segctl.runs.files import sync, write_json

__all__ = ["WORK", "Unpacked", "is_ready", "marker", "unpack"]

WORK = ".download"
_CHUNK = 2**20
_NO_NAMES = (errno.EINVAL, errno.ENAMETOOLONG, errno.EILSEQ)  # from a place or a name that no file can have
_LEFT_OUT = "__MACOSX"  # what macOS puts into zips beside the files


@dataclass(frozen=True)
class Unpacked:
    """What became of an archive.

    Attributes:
        files: How many files it held.
        replaced: Files that were there before and were others; they lie in ``.download/replaced`` now.
    """

    files: int
    replaced: int


Report = Callable[[int, int | None], None]


def unpack(
    archive: Path,
    root: Path,
    *,
    key: str,
    digest: str,
    folder: str = "",
    plain_name: str = "",
    provides: Sequence[str] = (),
    report: Report,
    stop: Stop,
    bounds: Bounds = Bounds(),
) -> Unpacked:
    """Brings the content of `archive` below ``root/folder``. The caller holds the lock of `root`.

    Args:
        archive: A tar (also compressed) or zip file; not looked at where `is_ready`.
        root: The data set's folder.
        key: Tells this archive at this place from others.
        digest: Of its content: what was begun with another content is not gone on with.
        folder: Below `root`.
        plain_name: Not empty: it is no archive, but a file of that name.
        provides: Paths below `root` that are moved last, because they tell that all is there.
        report: Is told how far it is and, where that is known, of how much.
        stop: Ends it between two pieces of work.
        bounds: How much may come out.

    Raises:
        DownloadError: It is damaged, or holds what an archive of a data set must not; nothing of it is in its place.
        DiskFullError: There is no room for it.
        StoppedError: The end was asked for.
    """
    work, home = root / WORK, root.joinpath(folder)
    ready, staging = work / f"{key}.ready", work / f"{key}-{digest[:12]}.unpacking"
    below = [str(PurePosixPath(path).relative_to(folder)) for path in provides if _is_below(path, folder)]
    if not ready.is_dir():
        for other in set(work.glob(f"{key}-*.unpacking")) - {staging}:
            shutil.rmtree(other)
        staging.mkdir(parents=True, exist_ok=True)
        with _refusing(archive, root, staging):
            if plain_name:
                _copy(archive, staging / plain_name, stop)
            else:
                _Extraction(archive, staging, bounds, report, stop).run()
            _refuse_without(below, archive, staging)
        sync(staging)
        os.replace(staging, ready)
    files = sum(len(names) for _, _, names in os.walk(ready))
    home.mkdir(parents=True, exist_ok=True)
    replaced = _Move(ready, home, work / "replaced" / key, below, stop).run()
    write_json(marker(root, key), {"archive": archive.name, "files": files, "time": time.time()})
    shutil.rmtree(ready)
    return Unpacked(files, replaced)


@contextlib.contextmanager
def _refusing(archive: Path, root: Path, staging: Path) -> Iterator[None]:
    """What is no archive, or no honest one, leaves nothing; what is cut off for another reason is gone on with."""
    try:
        yield
    except DownloadError:
        shutil.rmtree(staging)
        raise
    except (UnsafeError, *DAMAGED) as error:
        shutil.rmtree(staging)
        raise _refused(archive, error) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFullError(f"{root} cannot take more of {archive.name}: {error.strerror}.", _GO_ON) from error
        if error.errno not in (None, *_NO_NAMES):
            raise
        shutil.rmtree(staging)
        raise _refused(archive, error) from error


def _copy(archive: Path, place: Path, stop: Stop) -> None:
    stop.check()
    refuse_more(archive.name, archive.stat().st_size, place.parent.parent.parent, _GO_ON)
    temporary = place.with_name(".copy")
    shutil.copyfile(archive, temporary)
    os.replace(temporary, place)


def _refuse_without(provides: Sequence[str], archive: Path, staging: Path) -> None:
    missing = [path for path in provides if not os.path.lexists(staging / path)]
    if missing:
        raise DownloadError(
            f"{archive} is not unpacked: it holds no {listing(missing)}, which the data set needs of it.",
            "It is incomplete or another file, or what is published has changed: get it anew.",
        )


def marker(root: Path, key: str) -> Path:
    """The file that says an archive is unpacked."""
    return root / WORK / f"{key}.json"


def is_ready(root: Path, key: str) -> bool:
    """Whether an archive is unpacked but for the last move; the archive itself is not needed any more."""
    return (root / WORK / f"{key}.ready").is_dir()


_GO_ON = "Make room and run the same command again: it goes on where it stopped."


def _is_below(path: str, folder: str) -> bool:
    return PurePosixPath(path).is_relative_to(folder)


def _refused(archive: Path, error: BaseException) -> DownloadError:
    if isinstance(error, UnsafeError):
        return DownloadError(
            f"{archive.name} is not unpacked: it holds {error}.",
            "An archive of a data set has no such thing: find out where it comes from.",
        )
    why = str(error).strip().rstrip(".") or type(error).__name__
    return DownloadError(f"{archive} is damaged, or no archive: {why}.", "Fetch it anew, or name another source.")


class _Extraction:
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
        self._reserve = Reserve(archive.name, self._home, _GO_ON)

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
        refuse_more(self._archive.name, needed - there, self._home, _GO_ON)


def _case_matters(folder: Path) -> bool:
    probe = folder / ".case"
    probe.touch()
    try:
        return not (folder / ".CASE").exists()
    finally:
        probe.unlink()


def _equal(path: Path, content: object) -> bool:
    read = getattr(content, "read")  # noqa: B009 - any stream
    with path.open("rb") as file:
        while True:
            one, other = file.read(_CHUNK), read(_CHUNK)
            if one != other:
                return False
            if not one:
                return True


class _Move:
    """Moves a tree to where another may be already; whole folders at once where there is nothing yet."""

    def __init__(self, source: Path, home: Path, aside: Path, last: Sequence[str], stop: Stop) -> None:
        self._source, self._home, self._aside, self._stop = source, home, aside, stop
        self._last = {tuple(PurePosixPath(path).parts[:depth]) for path in last for depth in range(1, 99)}
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
            kept = self._aside.joinpath(*parts)
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


def _same(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and os.readlink(one) == os.readlink(other)
    return filecmp.cmp(one, other, shallow=False)
