"""What is to be done for which data set, from the facts of its plugin and what is on disk: pure functions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from segctl.plugin import Archive

__all__ = ["DatasetState", "Item", "Seen", "Target", "Wanted", "addresses", "decide", "file_key", "place_key", "share"]

UNPACKED_RATIO = 1.1  # photographs and PNGs hardly shrink in an archive; the exact size is known once it is here


@dataclass(frozen=True)
class Wanted:
    """A data set that is to be there.

    Attributes:
        name: By which it was asked for.
        plugin: Tells it from others of the same folder, whatever name it was asked for by.
        root: Its folder.
        layout: Paths below the root that show the data are there.
        archives: What it is published as.
        prepare: Makes the rest of the archives' files; None where nothing is to be made.
    """

    name: str
    plugin: str
    root: Path
    layout: tuple[str, ...]
    archives: tuple[Archive, ...]
    prepare: Callable[[Path, Callable[[int, int], None]], None] | None = None


@dataclass(frozen=True)
class Seen:
    """What is on disk of a data set.

    Attributes:
        layout: All of its layout is there.
        begun: segctl has begun to fetch it; what is there was not simply put there by somebody.
        marked: Keys of the archives that were unpacked by segctl.
        unfinished: Keys of the archives that are being unpacked, or were when it was interrupted.
        provided: Keys of the archives that declare what they provide, all of which is there.
        declared: Keys of the archives that declare what they provide.
    """

    layout: bool = False
    begun: bool = False
    marked: frozenset[str] = frozenset()
    unfinished: frozenset[str] = frozenset()
    provided: frozenset[str] = frozenset()
    declared: frozenset[str] = frozenset()


@dataclass(frozen=True)
class DatasetState:
    """What a data set lacks.

    Attributes:
        missing: Archives that are not unpacked.
        prepare: What its archives hold is there, or will be, so that the rest can be made of it.
    """

    missing: tuple[Archive, ...]
    prepare: bool = True


@dataclass(frozen=True)
class Target:
    """Where an archive is unpacked, and which data sets have that folder in common."""

    datasets: tuple[str, ...]
    root: Path
    archive: Archive


@dataclass(frozen=True)
class Item:
    """A file that is fetched once, for all data sets that want it."""

    key: str
    archive: Archive
    targets: tuple[Target, ...]


def file_key(archive: Archive) -> str:
    """Tells apart files of one name: the same for two data sets that are published as one file."""
    facts = (archive.file, archive.size, archive.md5, archive.sha1, archive.sha256)
    source = () if any(facts[2:]) else (archive.url,)
    return _digest((*facts, *source))


def place_key(archive: Archive) -> str:
    """The same, of a file at the place where it is unpacked."""
    return _digest((file_key(archive), archive.folder, archive.unpack))


def _digest(facts: Iterable[object]) -> str:
    return hashlib.sha256(json.dumps(list(facts)).encode()).hexdigest()[:12]


def decide(wanted: Wanted, seen: Seen) -> DatasetState:
    """Which archives of a data set are still to be unpacked.

    What somebody put there is taken as it is where all of the layout is there: whether it is complete is for
    `segctl data check` to say.
    """
    if wanted.layout and seen.layout and not seen.begun and not seen.unfinished:
        return DatasetState((), prepare=all(place_key(archive) in seen.provided for archive in wanted.archives))
    return DatasetState(tuple(archive for archive in wanted.archives if not _is_done(place_key(archive), seen)))


def _is_done(key: str, seen: Seen) -> bool:
    if key in seen.unfinished:
        return False
    return (key in seen.marked and (key in seen.provided or key not in seen.declared)) or key in seen.provided


def share(wanted: Sequence[tuple[Wanted, DatasetState]]) -> tuple[Item, ...]:
    """The files to be fetched: one that several data sets are published as only once, to each folder that wants it."""
    targets: dict[str, dict[tuple[Path, str], Target]] = {}
    for each, state in wanted:
        for archive in state.missing:
            found, place = targets.setdefault(file_key(archive), {}), (each.root, place_key(archive))
            before = found[place].datasets if place in found else ()
            found[place] = Target((*before, each.name), each.root, archive)
    return tuple(Item(key, next(iter(found.values())).archive, tuple(found.values())) for key, found in targets.items())


def addresses(archive: Archive, mirror: str) -> tuple[str, ...]:
    """Where a file may be fetched, in the order in which it is tried.

    Args:
        archive: What.
        mirror: The beginning of an address that holds files by their name; goes before all others. Empty: none.
    """
    mirrored = f"{mirror.rstrip('/')}/{quote(archive.file)}" if mirror else ""
    return tuple(dict.fromkeys(url for url in (mirrored, archive.url, *archive.mirrors) if url))
