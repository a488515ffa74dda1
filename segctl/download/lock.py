"""One process at a time for a file or a folder, also on a file system that several machines share.

Two things have to agree. flock, which the kernel gives back when its owner dies, however that happens; between machines
it holds where the file system passes it on, and there are mounts where it does not, or fails. And a file that names the
owner, which appears by a hard link or not at all, and is touched every few seconds: an owner of another machine counts
as long as that goes on. What a dead process of this machine has left is taken over at once.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segctl.download.stopping import Stop
from segctl.runs.files import read_json
from segctl.runs.process import ProcessId, alive, hostname, identify

__all__ = ["Timing", "held"]

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Timing:
    """Seconds.

    Attributes:
        look: Between two looks at a lock that is taken.
        beat: Between two signs of life.
        silent: Without one, after which an owner of another machine counts as dead. More than a network file system
            keeps what it knows of a file's time.
    """

    look: float = 0.2
    beat: float = 10.0
    silent: float = 75.0


@contextlib.contextmanager
def held(path: Path, stop: Stop, waiting: Callable[[str], None], timing: Timing = Timing()) -> Iterator[None]:
    """Holds the lock `path` while the block runs; its folder is made.

    Args:
        path: Where the lock is; files may be left there.
        stop: Ends the waiting.
        waiting: Is told once who has it, where it is taken.
        timing: See `Timing`.

    Raises:
        StoppedError: The end was asked for before it was free.
        OSError: The lock cannot be made.
    """
    owner = _Owner(path.with_name(f"{path.name}.owner"), timing)
    told = False
    while True:
        descriptor = _flock(path)
        if descriptor is not None:
            if owner.claim():
                break
            os.close(descriptor)
        if not told and (name := owner.name()):
            waiting(name)
            told = True
        stop.sleep(timing.look)
    beat = threading.Thread(target=owner.beat, daemon=True)
    beat.start()
    try:
        yield
    finally:
        owner.release()
        with contextlib.suppress(OSError):
            path.unlink()  # who waits for it notices, and opens the next one
        os.close(descriptor)
        beat.join()


def _flock(path: Path) -> int | None:
    """A descriptor that holds the lock, or None where another has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:  # its last owner has just removed the folder
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return None
            raise
    # Its last owner may have removed the file between our opening and locking it.
    with contextlib.suppress(OSError):
        if os.fstat(descriptor).st_ino == os.stat(path).st_ino:
            return descriptor
    os.close(descriptor)
    return None


class _Owner:
    """The file that names who has the lock."""

    def __init__(self, path: Path, timing: Timing) -> None:
        self._path, self._timing = path, timing
        self._token = secrets.token_hex(8)
        self._seen: tuple[Any, float] | None = None
        self._ended = threading.Event()

    def claim(self) -> bool:
        """Makes this process the owner, if no living one has that place."""
        ours = self._path.with_name(f"{self._path.name}.{self._token}")
        text = json.dumps({**_this_process(), "token": self._token})
        ours.write_text(text)  # not flushed to the disk: after a power failure nobody owns anything
        try:
            os.link(ours, self._path)
            return True
        except FileExistsError:
            if not self._owner_is_gone():
                return False
            self._take_away()
            return self.claim()
        except FileNotFoundError:  # its last owner has tidied up
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._path.write_text(text)
            return True
        finally:
            ours.unlink(missing_ok=True)

    def name(self) -> str:
        """Who has the lock, in words; empty where nobody says so, or where it is another thread of this process."""
        record = read_json(self._path) or {}
        if all(record.get(name) == value for name, value in _this_process().items()):
            return ""
        return f"process {record['pid']} on {record['host']}" if {"pid", "host"} <= set(record) else ""

    def _owner_is_gone(self) -> bool:
        record = read_json(self._path)
        process = ProcessId.from_record(record) if record is not None else None
        if process is not None and _same_kernel(process):
            return alive(process) is not True  # one of another container would hold the flock
        try:
            seen = (record, os.stat(self._path).st_mtime_ns)
        except OSError:
            return False  # it has just been given back
        now = time.monotonic()
        if self._seen is None or self._seen[0] != seen:
            self._seen = (seen, now)
        return now - self._seen[1] >= self._timing.silent

    def _take_away(self) -> None:
        """Removes a dead owner's file; where another was quicker it is that one's, and is put back."""
        judged = read_json(self._path)
        aside = self._path.with_name(f"{self._path.name}.{self._token}.gone")
        with contextlib.suppress(OSError):
            os.rename(self._path, aside)
            if read_json(aside) != judged:
                os.link(aside, self._path)
            aside.unlink()

    def beat(self) -> None:
        """Gives signs of life until it is released."""
        while not self._ended.wait(self._timing.beat):
            with contextlib.suppress(OSError):
                os.utime(self._path)

    def release(self) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            if (read_json(self._path) or {}).get("token") == self._token:
                for left in self._path.parent.glob(f"{self._path.name}.*"):  # of who was killed while he looked
                    left.unlink(missing_ok=True)
                self._path.unlink()


def _same_kernel(process: ProcessId) -> bool:
    ours = identify(os.getpid())
    boots = {each.started.partition("/")[0] for each in (process, ours) if each is not None}
    return process.host == hostname() and len(boots) == 1


def _this_process() -> dict[str, Any]:
    process = identify(os.getpid())
    return process.as_record() if process is not None else {"host": hostname(), "pid": os.getpid()}
