"""One file over HTTP: broken transfers go on where they stopped, in this process or in the next one."""

from __future__ import annotations

import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
import urllib3

from segctl.download import resume
from segctl.download.address import identity, shown
from segctl.download.checksum import Checksum, Running
from segctl.download.retry import Patience, pause, worth_retrying
from segctl.download.session import Session
from segctl.download.space import MAKE_ROOM, Reserve, refuse_more
from segctl.download.stopping import Stop
from segctl.errors import DiskFullError, DownloadError, listing
from segctl.runs.files import read_json, write_json

__all__ = ["Fetched", "Transfer", "Watcher"]

log = logging.getLogger(__name__)

CHUNK = 2**16  # what a killed process may lose of what it has received; what a slow line brings in seconds
_QUERY = re.compile(r"(\w://[^\s?'\"]*)\?[^\s'\"]*")  # it may be a secret


class Watcher(Protocol):
    """Is told what happens to a file; called from the thread that does it."""

    def at(self, phase: str, done: int, total: int | None) -> None: ...

    def note(self, message: str) -> None: ...


@dataclass(frozen=True)
class Fetched:
    """A file that is complete: its bytes lie in the part file, still under that name.

    Attributes:
        url: Where it came from.
        checksum: Of the whole, computed while it was read.
    """

    url: str
    checksum: Checksum


class _RefusedError(Exception):
    """An address does not give the file.

    Args:
        why: In a few words.
        reached: Its server was.
    """

    def __init__(self, why: str, *, reached: bool = True) -> None:
        super().__init__(why)
        self.reached = reached


class _FailedError(Exception):
    """A request failed in a way that another one may not.

    Args:
        why: In a few words.
        reached: A connection came about.
        wanted: Seconds that the server asks to wait.
    """

    def __init__(self, why: str, *, reached: bool = True, wanted: float | None = None) -> None:
        super().__init__(why)
        self.reached, self.wanted = reached, wanted


class Transfer:
    """Fetches one file into `part`.

    Args:
        file: Its name, for messages.
        part: Where its bytes go; what is there already is kept if it can be. Beside it lies ``<part>.json``.
        addresses: Where it may be fetched, in the order in which they are tried.
        size: Bytes, where they are published.
        expected: The published checksum, or None.
        session_for: Gives the session for an address; may log in. With True anew, as the server did not know it.
        watcher: Is told how far it is.
        stop: Ends it between two chunks.
        look_for_room: Is told how long the file is as soon as its server says so; raises DiskFullError.
        patience: How long it is tried.
    """

    def __init__(
        self,
        *,
        file: str,
        part: Path,
        addresses: Sequence[str],
        size: int | None,
        expected: Checksum | None,
        session_for: Callable[[str, bool], Session],
        watcher: Watcher,
        stop: Stop,
        look_for_room: Callable[[int], None] = lambda total: None,
        patience: Patience = Patience(),
    ) -> None:
        self._file, self._part, self._state = file, part, part.with_name(f"{part.name}.json")
        self._addresses, self._size, self._expected = addresses, size, expected
        self._session_for, self._watcher, self._stop, self._patience = session_for, watcher, stop, patience
        self._running = Running(expected.kind if expected else "sha256")
        self._spliced = self._anew = False
        self._draw = random.Random()
        self._look_for_room = look_for_room
        self._reserve = Reserve(file, part.parent)

    def run(self) -> Fetched:
        """Returns when the file is complete and agrees with what is published.

        Raises:
            DownloadError: No address gives it.
            DiskFullError: There is no room for it.
            StoppedError: The end was asked for; what is there stays.
        """
        refusals: dict[str, _RefusedError] = {}
        for url in self._addresses:
            try:
                return self._from(url)
            except _RefusedError as error:
                refusals[url] = error
                if len(refusals) < len(self._addresses):
                    self._watcher.note(f"{self._file} cannot be had from {shown(url)}: {error}.")
        raise _refused(self._file, refusals)

    def _from(self, url: str) -> Fetched:
        failures = best = 0
        self._anew = False
        while True:
            best = max(best, self._have())
            try:
                if self._request(url):
                    checksum = self._verified(url)
                    if checksum is not None:
                        return Fetched(url, checksum)
                continue
            except _FailedError as error:
                failures = failures + 1 if self._have() <= best else 1
                allowed = self._patience.failures if error.reached else self._patience.unreachable
                if failures >= allowed or (error.wanted or 0) > self._patience.asked:
                    raise _RefusedError(_given_up(error, failures), reached=error.reached) from error
                seconds = pause(self._patience, failures, self._draw.random(), error.wanted)
                why = str(error)
            log.info("%s: %s; asking again in %.1f s", self._file, why, seconds)
            if seconds >= 5:
                self._watcher.note(f"{self._file}: {why}; asking again in {seconds:.0f} s.")
            self._stop.sleep(seconds)

    def _have(self) -> int:
        try:
            return self._part.stat().st_size
        except FileNotFoundError:
            return 0

    def _request(self, url: str) -> bool:
        """One request, and its body onto the disk. True: the file is complete; False: ask again.

        Raises:
            _FailedError: It was cut off, or the server is busy.
            _RefusedError: This address does not give the file.
        """
        source = identity(url)
        part = resume.Part.from_record(read_json(self._state), self._have())
        if self._size is not None and part.have >= self._size and self._expected is not None:
            if part.have == self._size:
                self._spliced = True
                return True  # killed between the last byte and the end
            self._discard()
            return False
        headers = resume.range_headers(part, source, verified=self._expected is not None)
        with self._answer(url, headers) as response:
            answer = resume.Answer(
                response.status_code, {name.lower(): text for name, text in response.headers.items()}, time.time()
            )
            verdict = resume.judge(answer, part, source, asked_range=bool(headers), size=self._size)
            if verdict.act == "refuse":
                raise _RefusedError(verdict.why)
            if verdict.act == "wait":
                raise _FailedError(verdict.why, wanted=verdict.wanted)
            if verdict.act == "discard":
                self._discard()
                return False
            self._spliced = verdict.act != "restart"
            if verdict.act != "complete":
                self._receive(response, answer, source, restart=verdict.act == "restart", total=verdict.total)
            return True

    @contextmanager
    def _answer(self, url: str, headers: dict[str, str]) -> Iterator[requests.Response]:
        """The response to a request; what may go wrong with it becomes one of our two errors."""
        self._stop.check()
        try:
            response = self._get(url, headers)
            with response:
                yield response
        except requests.exceptions.SSLError as error:
            raise _RefusedError(f"its certificate is not accepted ({_cause(error)})") from error
        except requests.exceptions.ConnectionError as error:
            reason = error.args[0].reason if error.args and hasattr(error.args[0], "reason") else None
            nobody = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
            unreached = isinstance(reason, (*nobody, urllib3.exceptions.ProxyError))
            raise _FailedError(_cause(error), reached=not unreached) from error
        except (requests.exceptions.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise _FailedError(_cause(error)) from error
        except requests.exceptions.HTTPError as error:  # of a login
            if error.response is not None and worth_retrying(error.response.status_code):
                raise _FailedError(f"the server answers {error.response.status_code}") from error
            raise _RefusedError(_cause(error)) from error
        except requests.exceptions.RequestException as error:  # too many redirects, no such kind of address
            raise _RefusedError(_cause(error)) from error
        except urllib3.exceptions.HTTPError as error:  # while the body is read
            raise _FailedError(_cause(error)) from error

    def _get(self, url: str, headers: dict[str, str]) -> requests.Response:
        """The response; where it is a page instead of a file, from a server that wants a login, after another one."""
        before = None
        for again in (False, True):
            session = self._session_for(url, again)
            if session is before:
                break  # there is nobody to be known by
            before = session
            response = session.get(url, headers=headers, stream=True)
            if not _is_page(response):
                return response
            response.close()
        raise _RefusedError("there is a web page in place of the file")

    def _receive(
        self, response: requests.Response, answer: resume.Answer, source: str, *, restart: bool, total: int | None
    ) -> None:
        if total is not None:
            refuse_more(self._file, total - self._have(), self._part.parent)
            self._look_for_room(total)
        with self._part.open("ab", buffering=0) as file:
            if restart:
                # First the old bytes go, then the new validator is written: the other way round a kill in between would
                # leave the old bytes beside the new file's validator.
                file.truncate(0)
                self._running.restart()
                new = resume.Part(0, source, answer.header("etag"), answer.header("last-modified"), total)
                write_json(self._state, new.as_record())
            have = os.fstat(file.fileno()).st_size
            self._catch_up(have)
            self._watcher.at("fetching", have, total)
            while data := response.raw.read(CHUNK, decode_content=False):
                self._write(file, data)
                have += len(data)
                self._watcher.at("fetching", have, total)
                self._stop.check()
                if (limit := total if total is not None else self._size) is not None and have > limit:
                    self._discard()
                    raise _RefusedError(f"the file there is longer than its {limit:,} bytes")
        if total is not None and have < total:
            raise _FailedError("the connection was cut off")
        if total is None and self._size is not None and have < self._size:
            raise _FailedError("the file there ends early")

    def _write(self, file: Any, data: bytes) -> None:
        self._reserve.writing(len(data))
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
        except OSError as error:
            raise DiskFullError(
                f"{self._part.parent} cannot take more of {self._file}: {error.strerror}.", MAKE_ROOM
            ) from error
        self._running.feed(data)

    def _catch_up(self, have: int) -> None:
        def report(position: int) -> None:
            self._watcher.at("reading", position, have)
            self._stop.check()

        if self._running.position != have:
            self._running.catch_up(self._part, have, report)

    def _verified(self, url: str) -> Checksum | None:
        """The checksum of the complete file; None where it was put together of pieces that do not fit.

        Raises:
            _RefusedError: The bytes at this address are others.
        """
        self._catch_up(self._have())
        found = self._running.checksum
        if self._expected is None or found == self._expected:
            return found
        self._discard()
        if self._spliced and not self._anew:
            self._anew = True  # once: a server that cuts off and has other bytes would go on for ever
            self._watcher.note(f"{self._file} does not have its published checksum; it is fetched anew.")
            return None
        raise _RefusedError(f"its {found.kind} is {found.value}, not {self._expected.value}")

    def _discard(self) -> None:
        self._part.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)
        self._running.restart()


def _is_page(response: requests.Response) -> bool:
    return response.status_code == 200 and response.headers.get("Content-Type", "").lower().startswith("text/html")


def _given_up(error: _FailedError, failures: int) -> str:
    if error.wanted and failures < 2:
        return f"{error}, and wants to be asked again in {error.wanted:.0f} s"
    return f"{error}" if not error.reached else f"{error}, {failures} times in a row"


def _cause(error: BaseException) -> str:
    """The innermost reason in its own words."""
    seen = error
    while True:
        parts = (getattr(seen, "reason", None), *seen.args, seen.__cause__ if seen is not error else None)
        inner = next((part for part in parts if isinstance(part, BaseException)), None)
        if inner is None:
            break
        seen = inner
    text = seen.strerror if isinstance(seen, OSError) and seen.strerror else str(seen)
    if "(" in text and text.endswith(")") and "[Errno" in text:  # urllib3 tells its object, the host, and then why
        text = text.rpartition("[Errno ")[2].partition("] ")[2][:-1]
    text = _QUERY.sub(r"\1", text)
    return text.strip().rstrip(".").replace("\n", " ") or type(seen).__name__


def _refused(file: str, refusals: Mapping[str, _RefusedError]) -> DownloadError:
    if all(not error.reached for error in refusals.values()):
        hosts = listing(dict.fromkeys(urlsplit(url).hostname or url for url in refusals))
        why = listing(dict.fromkeys(str(error) for error in refusals.values()))
        return DownloadError(
            f"{file} cannot be fetched: from here there is no network, or no way to {hosts} ({why}).",
            "Use a machine that has one (--on PLACE for a job), --mirror, or --from with files that you bring.",
        )
    by_reason: dict[str, list[str]] = {}
    for url, error in refusals.items():
        by_reason.setdefault(str(error), []).append(shown(url))
    reasons = "; ".join(f"{listing(urls)}: {why}" for why, urls in by_reason.items())
    return DownloadError(
        f"{file} cannot be fetched: {reasons}.", "Name another source with --mirror, or give the file with --from."
    )
