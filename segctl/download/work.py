"""What is done for one file: it is fetched or taken, verified, unpacked wherever it is wanted, and removed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from segctl.download import checksum, leftovers, space
from segctl.download.address import shown
from segctl.download.checksum import Checksum, Running, published
from segctl.download.facts import unwritable
from segctl.download.given import Given
from segctl.download.lock import held
from segctl.download.login import Logins
from segctl.download.plan import Item, Target, addresses, place_key
from segctl.download.session import Session
from segctl.download.stopping import Stop
from segctl.download.survey import HAND_OVER, archive_folder
from segctl.download.transfer import Transfer
from segctl.download.unpack import WORK, is_ready, marker, unpack
from segctl.errors import DownloadError

__all__ = ["Event", "FileResult", "Setting", "carry_out"]


@dataclass(frozen=True)
class Event:
    """Something that happens to a file or a data set.

    Attributes:
        subject: Name of the file, or of the data set that is prepared.
        phase: ``waiting``, ``fetching``, ``reading`` (to verify it), ``unpacking``, ``preparing`` or ``done``.
        done: Bytes, or steps of the preparation; of `total`, None where that is not known.
        message: A sentence for people, beside the figures; empty for none.
    """

    subject: str
    phase: str = ""
    done: int = 0
    total: int | None = None
    message: str = ""


@dataclass(frozen=True)
class FileResult:
    """What became of one file of a data set.

    Attributes:
        file: Its name.
        source: The address that it came from, without its query, or the path of a file that was there.
        size: Bytes.
        checksum: Such as ``sha1 4e443f...``, as it was computed.
        verified: It agrees with a published one; False: none is published.
        files: How many files were unpacked.
        replaced: Files that were there and were others; they lie in ``.download/replaced``.
    """

    file: str
    source: str
    size: int
    checksum: str
    verified: bool
    files: int
    replaced: int


@dataclass(frozen=True)
class Setting:
    """What all files have in common.

    Attributes:
        data_root: Folder of the data sets.
        mirror: Beginning of an address; empty for none.
        given: What the user already has.
        keep: Archives stay when they are unpacked.
        logins: For servers that want one.
        stop: Ends the work.
        tell: Is told what happens; from several threads.
    """

    data_root: Path
    mirror: str
    given: Given
    keep: bool
    logins: Logins
    stop: Stop
    tell: Callable[[Event], None]


class _Teller:
    """Tells of one file."""

    def __init__(self, subject: str, tell: Callable[[Event], None]) -> None:
        self._subject, self._tell = subject, tell

    def at(self, phase: str, done: int, total: int | None) -> None:
        self._tell(Event(self._subject, phase, done, total))

    def note(self, message: str) -> None:
        self._tell(Event(self._subject, message=message))


def carry_out(item: Item, setting: Setting) -> dict[str, FileResult]:
    """Does all that is to be done for a file; several processes may be at it.

    Returns:
        By the name of the data set; those for which another process has meanwhile done it are left out.

    Raises:
        DownloadError: It cannot be had, or not be unpacked.
        DataError: The folders cannot be written.
        DiskFullError: There is no room.
        StoppedError: The end was asked for.
    """
    teller = _Teller(item.archive.file, setting.tell)
    folder = archive_folder(setting.data_root, item)

    def waiting(owner: str) -> None:
        teller.note(f"{item.archive.file} is being fetched by {owner}; waiting for it.")
        teller.at("waiting", 0, None)

    try:
        with held(folder / "lock", setting.stop, waiting):
            leftovers.want(folder, item, keep=setting.keep)
            try:
                results = _with_the_file(item, folder, setting, teller)
            finally:
                leftovers.clear(folder)
    except OSError as error:
        raise unwritable(Path(error.filename or folder), error) from error
    finally:
        leftovers.remove_empty(folder)
    teller.at("done", 0, None)
    return results


def _with_the_file(item: Item, folder: Path, setting: Setting, teller: _Teller) -> dict[str, FileResult]:
    results = {}
    had: _Had | None = None
    for target in item.targets:
        key = place_key(target.archive)
        # Another process may have been quicker; then the lock was waited for.
        if _is_unpacked(target):
            continue
        if not is_ready(target.root, key):
            had = had or _have(item, folder, setting, teller)
        try:
            result = _unpacked(target, key, had or _Had.nothing(), setting, teller)
        except DownloadError:
            if had is not None and not had.verified and had.path.parent == folder:
                had.path.unlink(missing_ok=True)  # nobody says that these bytes are right: the next call fetches anew
            raise
        results.update(dict.fromkeys(target.datasets, result))
    return results


def _is_unpacked(target: Target) -> bool:
    return marker(target.root, place_key(target.archive)).is_file() and all(
        (target.root / path).exists() for path in target.archive.provides
    )


@dataclass(frozen=True)
class _Had:
    """A file that is here and verified."""

    path: Path
    source: str
    checksum: Checksum
    verified: bool

    @classmethod
    def nothing(cls) -> _Had:
        return cls(Path(), "", Checksum("sha256", ""), False)


def _have(item: Item, folder: Path, setting: Setting, teller: _Teller) -> _Had:
    """The file: the user's own, the one that an earlier call has fetched, or else fetched now."""
    archive = item.archive
    given = setting.given.find(archive)
    path = given or folder / archive.file
    if not path.is_file():
        source = _fetch(item, folder, setting, teller)
        return replace(_verified(path, item, folder, setting, teller), source=source)
    try:
        return _verified(path, item, folder, setting, teller)
    except DownloadError:
        if given is not None:
            raise
        # Somebody has changed what lay here verified.
        path.unlink()
        return _have(item, folder, setting, teller)


def _verified(path: Path, item: Item, folder: Path, setting: Setting, teller: _Teller) -> _Had:
    """Holds a file against its published size and checksum; one that was read before is not read again.

    Raises:
        DownloadError: It is another.
    """
    expected, record = published(item.archive), folder / "checksum.json"
    size = path.stat().st_size
    if item.archive.size not in (None, size):
        raise DownloadError(
            f"{path} has {size:,} bytes; {item.archive.file} is published with {item.archive.size:,}.",
            "It is not complete, or another file: fetch it anew.",
        )
    kind = expected.kind if expected else "sha256"
    found = checksum.known(record, path, kind)
    if found is None:
        found = _read(path, kind, size, setting.stop, teller)
        checksum.record(record, path, found)
    if expected is not None and found != expected:
        raise DownloadError(
            f"{path} is not the {item.archive.file} that was published: its {found.kind} is {found.value}, not "
            f"{expected.value}.",
            "It is damaged or another version: fetch it anew.",
        )
    if expected is None:
        teller.note(f"No checksum is published for {path.name}; what was read has {found}.")
    return _Had(path, str(path), found, expected is not None)


def _read(path: Path, kind: str, size: int, stop: Stop, teller: _Teller) -> Checksum:
    running = Running(kind)

    def report(position: int) -> None:
        teller.at("reading", position, size)
        stop.check()

    running.catch_up(path, size, report)
    return running.checksum


def _fetch(item: Item, folder: Path, setting: Setting, teller: _Teller) -> str:
    """Fetches the file into the archives' folder; returns where it came from."""
    archive = item.archive
    urls = addresses(archive, setting.mirror)
    if not urls:
        raise DownloadError(f"{archive.file} cannot be fetched by a program. {archive.manual}".strip(), HAND_OVER)
    part = folder / f"{archive.file}.part"
    fetched = Transfer(
        file=archive.file,
        part=part,
        addresses=urls,
        size=archive.size,
        expected=published(archive),
        session_for=_sessions(item, setting),
        watcher=teller,
        stop=setting.stop,
        look_for_room=lambda total: _look_for_room(item, total, folder),
    ).run()
    with part.open("rb") as file:
        os.fsync(file.fileno())
    path = folder / archive.file
    os.replace(part, path)
    checksum.record(folder / "checksum.json", path, fetched.checksum)
    part.with_name(f"{part.name}.json").unlink(missing_ok=True)
    return shown(fetched.url)


def _look_for_room(item: Item, total: int, folder: Path) -> None:
    """Before the first byte of a file whose size is not published; for the others it was done before."""
    if item.archive.size is None:
        sized = replace(item, archive=replace(item.archive, size=total))
        space.refuse_without_room(space.demands([sized], {item.key: total}, folder, keep=False, at_once=1))


def _sessions(item: Item, setting: Setting) -> Callable[[str, bool], Session]:
    archive, nobodys = item.archive, Session()
    logged_in: Session | None = None

    def session_for(url: str, anew: bool) -> Session:
        nonlocal logged_in
        if not archive.login or url != archive.url:
            return nobodys
        if anew or logged_in is None:
            logged_in = setting.logins.session(archive, url, anew=anew)
        return logged_in

    return session_for


def _unpacked(target: Target, key: str, had: _Had, setting: Setting, teller: _Teller) -> FileResult:
    archive = target.archive

    def waiting(owner: str) -> None:
        teller.note(f"{target.root} is being worked on by {owner}; waiting for it.")

    with held(target.root / WORK / "lock", setting.stop, waiting):
        size = had.path.stat().st_size if had.source else 0
        teller.at("unpacking", 0, size or None)
        done = unpack(
            had.path,
            target.root,
            key=key,
            digest=had.checksum.value,
            folder=archive.folder,
            plain_name="" if archive.unpack else archive.file,
            provides=archive.provides,
            report=lambda at, total: teller.at("unpacking", at, total),
            stop=setting.stop,
        )
    if done.replaced:
        kept = target.root / WORK / "replaced" / key
        teller.note(f"{done.replaced} files in {target.root} were others than those of {archive.file}: now in {kept}.")
    return FileResult(
        archive.file,
        had.source,
        size,
        str(had.checksum) if had.source else "",
        had.verified,
        done.files,
        done.replaced,
    )
