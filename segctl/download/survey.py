"""What a download would have to do, found out without doing any of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segctl import registry
from segctl.download import facts
from segctl.download.given import Given, mirror_of
from segctl.download.login import Ask, Logins
from segctl.download.plan import DatasetState, Item, Wanted, decide, share
from segctl.errors import ConfigError, DownloadError, SegctlError, listing

if TYPE_CHECKING:
    from segctl.plugin import Archive

__all__ = ["ARCHIVES", "HAND_OVER", "Survey", "archive_folder", "datasets_of", "survey"]

ARCHIVES = ".archives"
HAND_OVER = "Then give the file, or its folder, with --from."


@dataclass(frozen=True)
class Survey:
    """What is wanted, what of it is there, and how the rest may be had.

    Attributes:
        data_root: Folder of the data sets, absolute.
        datasets: Each with what it lacks.
        items: The files that a program can get at.
        refused: By data set why a file of it cannot be had.
        left_out: What `--all` could not look at, in sentences.
        address: Of a mirror; empty for none.
        given: What the user has.
        logins: With the names and passwords that are needed.
    """

    data_root: Path
    datasets: tuple[tuple[Wanted, DatasetState], ...]
    items: tuple[Item, ...]
    refused: dict[str, SegctlError]
    left_out: tuple[str, ...]
    address: str
    given: Given
    logins: Logins


def survey(
    names: str | Sequence[str],
    *,
    all: bool,
    data_root: str | os.PathLike[str] | None,
    mirror: str,
    files: Sequence[str | os.PathLike[str]],
    ask: Ask = lambda host: None,
) -> Survey:
    """Looks at plugins and at the disk; see `segctl.download` for the arguments and errors."""
    try:
        address, folder = mirror_of(mirror)
        given = Given(files, folder)
    except OSError as error:
        why = f"{error.filename} cannot be read: {error.strerror}."
        raise ConfigError(why, "Give --from and --mirror what you may read.") from error
    place = facts.data_root_of(data_root)
    with registry.one_look():
        chosen, left_out = facts.names_of([names] if isinstance(names, str) else names, everything=all)
        datasets = tuple(_with_state(facts.wanted(name, place)) for name in chosen)
    given.refuse_unused(archive for each, _ in datasets for archive in each.archives)
    logins = Logins(ask)
    refused: dict[str, SegctlError] = {}
    by_hand: dict[str, list[Archive]] = {}
    items = []
    for item in share(datasets):
        if _needs_a_browser(item, place, given, address):
            for dataset in datasets_of(item):
                by_hand.setdefault(dataset, []).append(item.archive)
        elif obstacle := _obstacle(item, place, given, address, logins):
            for dataset in datasets_of(item):
                refused[dataset] = _with(refused.get(dataset), obstacle)
        else:
            items.append(item)
    for dataset, archives in by_hand.items():
        refused[dataset] = _with(refused.get(dataset), _told_by_hand(dataset, archives))
    return Survey(place, datasets, tuple(items), refused, left_out, address, given, logins)


def archive_folder(data_root: Path, item: Item) -> Path:
    """Where a file lies from its first byte until it is unpacked."""
    return data_root / ARCHIVES / item.key


def datasets_of(item: Item) -> Iterator[str]:
    for target in item.targets:
        yield from target.datasets


def _with_state(each: Wanted) -> tuple[Wanted, DatasetState]:
    return each, decide(each, facts.look(each))


def _is_here(item: Item, data_root: Path, given: Given) -> bool:
    return given.find(item.archive) is not None or (archive_folder(data_root, item) / item.archive.file).is_file()


def _needs_a_browser(item: Item, data_root: Path, given: Given, mirror: str) -> bool:
    return not (item.archive.url or item.archive.mirrors or mirror or _is_here(item, data_root, given))


def _told_by_hand(dataset: str, archives: Sequence[Archive]) -> SegctlError:
    """What to fetch with a browser: files of which the same is to be said are named together."""
    sentences: dict[str, list[str]] = {}
    for archive in archives:
        manual = archive.manual or f"{archive.file} is not published at an address."
        sentences.setdefault(manual.replace(archive.file, "\0"), []).append(archive.file)
    told = " ".join(sentence.replace("\0", listing(files)) for sentence, files in sentences.items())
    return DownloadError(told, f"Then: segctl download {dataset} --from FOLDER" if "--from" in told else HAND_OVER)


def _obstacle(item: Item, data_root: Path, given: Given, mirror: str, logins: Logins) -> SegctlError | None:
    """Why a program cannot get at a file. Who has to be asked for a password is asked here, before the work begins."""
    if item.archive.login and not mirror and not _is_here(item, data_root, given):
        try:
            logins.gather(item.archive)
        except DownloadError as error:
            return error
    return None


def _with(before: SegctlError | None, error: SegctlError) -> SegctlError:
    if before is None or error.message in before.message:
        return error
    return DownloadError(f"{before.message} {error.message}", error.hint)
