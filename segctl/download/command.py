"""`segctl download`: fetches, verifies and unpacks what data sets are published as; a second call goes on."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segctl.download import facts, leftovers, space
from segctl.download.given import Given
from segctl.download.lock import held
from segctl.download.login import Ask
from segctl.download.plan import DatasetState, Item, Seen, Wanted, file_key
from segctl.download.stopping import Stop, StoppedError
from segctl.download.survey import ARCHIVES, Survey, archive_folder, datasets_of, survey
from segctl.download.unpack import WORK
from segctl.download.work import Event, FileResult, Setting, carry_out
from segctl.errors import ConfigError, DataError, DownloadError, PluginError, SegctlError, listing

__all__ = ["Downloaded", "download"]

_PATIENCE_SECONDS = 5.0  # for threads to notice that they should end


@dataclass(frozen=True)
class Downloaded:
    """What became of a data set.

    Attributes:
        name: By which it was asked for.
        root: Its folder.
        complete: All of it is there.
        files: What was fetched or taken and unpacked now; empty where all was there before.
        message: Why it is not complete.
        hint: The way out.
        published: There are files of it to be fetched; False: its samples are made without any.
    """

    name: str
    root: Path
    complete: bool
    files: tuple[FileResult, ...] = ()
    message: str = ""
    hint: str = ""
    published: bool = True


def download(
    names: str | Sequence[str] = (),
    *,
    all: bool = False,
    data_root: str | os.PathLike[str] | None = None,
    mirror: str = "",
    files: Sequence[str | os.PathLike[str]] = (),
    keep_archives: bool = False,
    at_once: int = 4,
    ask: Ask = lambda host: None,
    on_event: Callable[[Event], None] = lambda event: None,
    asked_to_stop: Callable[[], object] = lambda: None,
) -> tuple[Downloaded, ...]:
    """Brings data sets to this machine. What is there already is not fetched again, not even half of a file.

    Args:
        names: Data set plugins.
        all: All that declare archives, instead of `names`.
        data_root: Folder of the data sets; default: $SEGCTL_DATA, else ``data``.
        mirror: A folder, or the beginning of an address, that holds the files by their names; goes before the published
            addresses.
        files: Files that are there already, or folders with some.
        keep_archives: Archives stay in ``<data_root>/.archives`` when they are unpacked.
        at_once: How many files are worked on at a time.
        ask: Asks a person for name and password of a host; the password goes nowhere but to that host.
        on_event: Is told what happens, from several threads.
        asked_to_stop: Says, when it is asked, something true where the work is to end soon.

    Raises:
        DownloadError: Not all of them are complete; its `results` tell of each.
        ConfigError: An argument is not acceptable.
        PluginError: There is no such data set, or it cannot be imported.
        DataError: It declares nothing to download, or its folder cannot be used.
        DiskFullError: There is no room.
        StoppedError: `asked_to_stop` said so; what is there stays, and the next call goes on.
    """
    if at_once < 1:
        raise ConfigError(f"at_once: {at_once} is not above 0.")
    found = survey(names, all=all, data_root=data_root, mirror=mirror, files=files, ask=ask)
    for sentence in found.left_out:
        on_event(Event("", message=sentence))
    setting = Setting(
        found.data_root, found.address, found.given, keep_archives, found.logins, Stop(asked_to_stop), on_event
    )
    _look_for_room(found, keep_archives, at_once)
    begun = {dataset for item in found.items for dataset in datasets_of(item)}
    for each, _ in found.datasets:
        if each.name in begun:
            facts.begin(each)
    done, failed = _Workers(found.items, setting, at_once).run()
    results = [_finished(each, state, done, {**found.refused, **failed}, setting) for each, state in found.datasets]
    archives = (archive for each, _ in found.datasets for archive in each.archives)
    leftovers.tidy(found.data_root / ARCHIVES / file_key(archive) for archive in archives)
    lacking = [each for each in results if not each.complete]
    if lacking:
        raise _not_complete(lacking, results)
    return tuple(results)


def _look_for_room(found: Survey, keep: bool, at_once: int) -> None:
    here = {item.key: _here(archive_folder(found.data_root, item), item, found.given) for item in found.items}
    archives = found.data_root / ARCHIVES
    space.refuse_without_room(space.demands(found.items, here, archives, keep=keep, at_once=at_once))


def _here(folder: Path, item: Item, given: Given) -> int:
    """Bytes of a file that need no more room."""
    if given.find(item.archive) is not None:
        return item.archive.size or 0
    for name in (item.archive.file, f"{item.archive.file}.part"):
        with contextlib.suppress(OSError):
            return (folder / name).stat().st_size
    return 0


class _Workers:
    """Threads, each of which works on one file at a time.

    Not a ThreadPoolExecutor: at the end of the program Python waits for its threads, and one that waits for a silent
    server would keep Ctrl-C from ending anything for a minute.
    """

    def __init__(self, items: Sequence[Item], setting: Setting, at_once: int) -> None:
        self._setting = setting
        self._waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
        for item in items:
            self._waiting.put(item)
        self._done: dict[str, list[FileResult]] = {}
        self._failed: dict[str, SegctlError] = {}
        self._unexpected: list[BaseException] = []
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(at_once, len(items)))]

    def run(self) -> tuple[Mapping[str, Sequence[FileResult]], Mapping[str, SegctlError]]:
        """Returns when all is done: files by data set, and errors."""
        for thread in self._threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in self._threads):
                for thread in self._threads:
                    thread.join(0.2)  # short, so that Ctrl-C is noticed
        except BaseException:
            self._setting.stop.set()
            deadline = time.monotonic() + _PATIENCE_SECONDS
            for thread in self._threads:
                thread.join(max(0.0, deadline - time.monotonic()))
            raise
        if self._unexpected:
            raise self._unexpected[0]
        return self._done, self._failed

    def _work(self) -> None:
        while not self._unexpected:
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                return
            try:
                for dataset, result in carry_out(item, self._setting).items():
                    self._done.setdefault(dataset, []).append(result)
            except SegctlError as error:
                self._setting.tell(Event(item.archive.file, "done"))
                for dataset in datasets_of(item):
                    self._failed.setdefault(dataset, error)
            except BaseException as error:  # told in the thread that waits
                self._unexpected.append(error)
                self._setting.stop.set()


def _finished(
    each: Wanted,
    state: DatasetState,
    done: Mapping[str, Sequence[FileResult]],
    failed: Mapping[str, SegctlError],
    setting: Setting,
) -> Downloaded:
    """A data set whose files are there is prepared and looked at."""
    files = tuple(done.get(each.name, ()))
    error = failed.get(each.name)
    try:
        if error is None:
            if state.prepare:
                _prepare(each, setting)
            _refuse_another_layout(each, facts.look(each), files)
    except StoppedError:
        raise
    except SegctlError as found:
        error = found
    if error is not None:
        return Downloaded(each.name, each.root, False, files, error.message, error.hint)
    return Downloaded(each.name, each.root, True, files, published=bool(each.archives))


def _prepare(each: Wanted, setting: Setting) -> None:
    if each.prepare is None:
        return

    def progress(done: int, total: int) -> None:
        setting.tell(Event(each.name, "preparing", done, total))
        setting.stop.check()

    def waiting(owner: str) -> None:
        setting.tell(Event(each.name, message=f"{each.root} is being worked on by {owner}; waiting for it."))

    try:
        with contextlib.ExitStack() as stack:
            if os.access(each.root, os.W_OK):
                stack.enter_context(held(each.root / WORK / "lock", setting.stop, waiting))
            each.prepare(each.root, progress)
    except (SegctlError, StoppedError):
        raise
    except OSError as error:
        raise facts.unwritable(Path(error.filename or each.root), error) from error
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise PluginError(f"Data set {each.name!r} fails to prepare its files: {why}.") from error
    finally:
        setting.tell(Event(each.name, "done"))


def _refuse_another_layout(each: Wanted, seen: Seen, files: Sequence[FileResult]) -> None:
    if each.layout and not seen.layout:
        missing = [path for path in each.layout if not (each.root / path).exists()]
        raise DataError(
            f"All archives of {each.name} are unpacked in {each.root}, but there is no {listing(missing)}.",
            _why_another_layout(each, files),
        )


def _why_another_layout(each: Wanted, files: Sequence[FileResult]) -> str:
    own = [file.source for file in files if file.source and not file.verified and "://" not in file.source]
    if own:
        return f"{listing(own)} may be another file than {each.name} is published as: look at what is in it."
    return "What is published has changed, or files were removed: delete that folder to have it fetched anew."


def _not_complete(lacking: Sequence[Downloaded], results: Sequence[Downloaded]) -> DownloadError:
    if len(results) == 1:
        error = DownloadError(lacking[0].message, lacking[0].hint)
    else:
        told = " ".join(f"{each.name}: {each.message} {each.hint}".strip() for each in lacking)
        error = DownloadError(f"Not complete: {listing(each.name for each in lacking)}.", told)
    error.results = tuple(results)
    return error
