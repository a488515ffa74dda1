"""Unpacks an archive beside its place and then moves it there, so that what is half done never looks finished.

``<root>/.download`` holds, for an archive with the key K and the checksum C: ``K-C.unpacking/`` while it is unpacked,
``K.ready/`` from when all of it is there until all of it has been moved, and ``K.json`` when it is done. A second call
goes on in each of these.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segctl.download.contents import DAMAGED
from segctl.download.extraction import Extraction, Report
from segctl.download.members import Bounds, UnsafeError
from segctl.download.move import Move
from segctl.download.space import MAKE_ROOM, refuse_more
from segctl.download.stopping import Stop
from segctl.errors import DiskFullError, DownloadError, listing
from segctl.runs.files import write_json

__all__ = ["WORK", "Unpacked", "is_ready", "marker", "unpack"]

WORK = ".download"
_NO_NAMES = (errno.EINVAL, errno.ENAMETOOLONG, errno.EILSEQ)  # from a place or a name that no file can have


@dataclass(frozen=True)
class Unpacked:
    """What became of an archive.

    Attributes:
        files: How many files it held.
        replaced: Files that were there before and were others; they lie in ``.download/replaced`` now.
    """

    files: int
    replaced: int


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
    paths = [PurePosixPath(path) for path in provides]
    below = [path.relative_to(folder) for path in paths if path.is_relative_to(folder)]
    if not ready.is_dir():
        for other in set(work.glob(f"{key}-*.unpacking")) - {staging}:
            shutil.rmtree(other)
        staging.mkdir(parents=True, exist_ok=True)
        with _refusing(archive, root, staging):
            if plain_name:
                stop.check()
                refuse_more(archive.name, archive.stat().st_size, root)
                _copy(archive, staging / plain_name)
            else:
                Extraction(archive, staging, bounds, report, stop).run()
            _refuse_without(below, archive, staging)
            _flush(staging)  # what is called ready is never unpacked again, and its archive may go
        os.replace(staging, ready)
    files = sum(len(names) for _, _, names in os.walk(ready))
    home.mkdir(parents=True, exist_ok=True)
    replaced = Move(ready, home, work / "replaced" / key, below, stop).run()
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
            raise DiskFullError(f"{root} cannot take more of {archive.name}: {error.strerror}.", MAKE_ROOM) from error
        if error.errno not in (None, *_NO_NAMES):
            raise
        shutil.rmtree(staging)
        raise _refused(archive, error) from error


def _copy(archive: Path, place: Path) -> None:
    temporary = place.with_name(".copy")
    shutil.copyfile(archive, temporary)
    os.replace(temporary, place)


def _flush(folder: Path) -> None:
    """Makes all in `folder` survive a power failure, with one call for its file system.

    To flush each of many files by itself would wait for the disk that many times. Without that call, which is Linux's,
    all file systems are flushed.

    Raises:
        OSError: Something could not be written, by whomever it is.
    """
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)


def _refuse_without(provides: Sequence[PurePosixPath], archive: Path, staging: Path) -> None:
    missing = [str(path) for path in provides if not os.path.lexists(staging / path)]
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


def _refused(archive: Path, error: BaseException) -> DownloadError:
    if isinstance(error, UnsafeError):
        return DownloadError(
            f"{archive.name} is not unpacked: it holds {error}.",
            "An archive of a data set has no such thing: find out where it comes from.",
        )
    why = str(error).strip().rstrip(".") or type(error).__name__
    return DownloadError(f"{archive} is damaged, or no archive: {why}.", "Fetch it anew, or name another source.")
