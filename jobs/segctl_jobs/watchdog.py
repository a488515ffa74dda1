"""Ends a process that makes no progress: a collective whose peer is gone, a dead file system, a deadlocked data worker.

A thread counts how long nobody has called `beat`. After `launch.hang_timeout` seconds it leaves the stacks of all
threads and an error record in the run's directory, waits for the other ranks to do the same, and ends the process. A
thread can do so while the main one waits in C++, which has let go of Python's lock. Should something hold that lock, so
that no thread of Python runs, a timer of faulthandler's ends the process a little later.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePath
from types import FrameType

from segctl.runs import error_record
from segctl.runs.attempt import this
from segctl.runs.fault import EXIT_HUNG, HANG
from segctl.runs.run import Run

__all__ = ["Place", "beat", "collective_timeout", "doing", "patience", "place", "show_stack_on_request", "watching"]

log = logging.getLogger(__name__)

STARTING = "starting"
# Importing torch from a busy file system, opening a data set of many files, downloading weights, compiling a model: the
# first step may take this long, whatever is said of the others.
START_SECONDS = 1800.0
WRITE_SECONDS = 5.0  # for the last words, should the disk be what hangs
PEER_SECONDS = 5.0  # for the last words of the other ranks: the end of one ends them all
MARGIN = 15.0  # faulthandler's timer runs out this much later; more than the two before together
TICK = 1.0

STACK_REQUEST = signal.SIGUSR1

# The innermost frame outside of Python's own library is in one of these: it waits for the other ranks, or for a GPU
# that does.
_WAITS = re.compile(r"/torch/(distributed|autograd|nn/parallel)/|/segctl_jobs/(distributed|engine|sync_batchnorm)\.py$")
_STANDARD_LIBRARY = re.compile(r"^<|/lib/python[\d.]+/(?!(site|dist)-packages/)")
_TORCH = re.compile(r"/(site|dist)-packages/torch/")

Frame = tuple[str, int, str]  # file, line, function


def patience(hang_timeout: float, doing: str) -> float:
    """Seconds without progress after which a process hangs."""
    return max(hang_timeout, START_SECONDS) if doing == STARTING else hang_timeout


def collective_timeout(hang_timeout: float) -> timedelta:
    """How long a collective may take: never so short that it speaks before the watchdog, which knows more."""
    if not hang_timeout:
        return timedelta(days=30)
    return timedelta(seconds=patience(hang_timeout, STARTING) + 120)


@dataclass(frozen=True)
class Place:
    """Where a thread is.

    Attributes:
        words: For people.
        waits: For other ranks, as far as one can tell.
    """

    words: str
    waits: bool


def place(frames: Sequence[Frame]) -> Place:
    """Reads a stack, outermost frame first."""
    if not frames:
        return Place("code that is not Python", False)
    telling = [frame for frame in frames if not _STANDARD_LIBRARY.search(frame[0])] or list(frames)
    own = [frame for frame in telling if not _TORCH.search(frame[0])]
    words = _named(frames[-1])
    if own and own[-1] != frames[-1]:
        words += f", called from {_named(own[-1])}"
    return Place(words, _WAITS.search(telling[-1][0]) is not None)


def _named(frame: Frame) -> str:
    file, line, function = frame
    return f"{function} ({PurePath(file).name}:{line})"


class _Watchdog:
    def __init__(self, run: Run, rank: int, world_size: int, hang_timeout: float) -> None:
        self._run, self._rank, self._world_size, self._hang_timeout = run, rank, world_size, hang_timeout
        self.beats = 0
        self._ending = False
        self._tick = min(TICK, hang_timeout / 10)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._ending:
            # The end of another rank has broken the collective. What that raises here is not to replace the record.
            self._thread.join()
        self._stopped.set()
        faulthandler.cancel_dump_traceback_later()

    def _watch(self) -> None:
        seen, idle, last, armed = -1, 0.0, time.monotonic(), float("-inf")
        while not self._stopped.is_set():
            now, beats = time.monotonic(), self.beats
            # A process that was stopped for a while, as jobs of low priority may be, has not hung meanwhile.
            idle = 0.0 if beats != seen else idle + min(now - last, 2 * self._tick)
            seen, last = beats, now
            limit = patience(self._hang_timeout, doing())
            if now - armed > limit / 8 and not self._stopped.is_set():
                faulthandler.dump_traceback_later(limit + MARGIN, exit=True)
                armed = now
            if idle >= limit:
                self._end(limit)
            self._stopped.wait(self._tick)

    def _end(self, limit: float) -> None:
        self._ending = True
        faulthandler.dump_traceback_later(MARGIN, exit=True)
        words = threading.Thread(target=self._leave_word, args=(limit, time.time() - limit), daemon=True)
        words.start()
        words.join(WRITE_SECONDS)
        time.sleep(PEER_SECONDS)
        for worker in multiprocessing.active_children():  # one that hangs too does not notice that it is alone
            worker.kill()
        os._exit(EXIT_HUNG)

    def _leave_word(self, limit: float, since: float) -> None:
        frames = _stack(sys._current_frames().get(threading.main_thread().ident or 0))
        where = place(frames)
        message = f"no progress for {limit:g} s while {doing()}, in {where.words}"
        stacks = self._run.stacks / f"{this()}-rank{self._rank}.txt"
        with contextlib.suppress(OSError):
            error_record.put(
                self._run,
                self._rank,
                type=HANG,
                message=message,
                hint=f"The stacks of all its threads are in {stacks}.",
                traceback="Stack of the main thread (most recent call last):\n"
                + "".join(f'  File "{file}", line {line}, in {function}\n' for file, line, function in frames),
                user_error=False,
                waiting=where.waits,
                since=since,
                world_size=self._world_size,
                stacks=str(stacks.relative_to(self._run.path)),
            )
        with contextlib.suppress(OSError):
            self._run.stacks.mkdir(exist_ok=True)
            with stacks.open("w") as file:
                file.write(f"{message}\n\n")
                file.writelines(f"0x{thread.ident or 0:016x} is {thread.name}\n" for thread in threading.enumerate())
                file.write("\n")
                file.flush()
                faulthandler.dump_traceback(file, all_threads=True)
        log.error("%s; the stacks are in %s, those of data workers follow", message, stacks)
        for worker in multiprocessing.active_children():
            if worker.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, STACK_REQUEST)
                time.sleep(0.1)  # they share the log


def _stack(frame: FrameType | None) -> list[Frame]:
    """Outermost first. The source is not read: its disk may be what hangs."""
    frames = []
    while frame is not None:
        frames.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return frames[::-1]


_current: _Watchdog | None = None
_doing = STARTING


@contextlib.contextmanager
def watching(run: Run, *, rank: int, world_size: int, hang_timeout: float) -> Iterator[None]:
    """Watches over this process meanwhile; with a `hang_timeout` of 0 it may take all the time in the world."""
    global _current, _doing
    _doing = STARTING
    if not hang_timeout:
        yield
        return
    _current = watchdog = _Watchdog(run, rank, world_size, hang_timeout)
    watchdog.start()
    try:
        yield
    finally:
        _current = None
        watchdog.stop()


def beat(doing: str = "") -> None:
    """Says that there is progress, from any thread, as often as one likes; does nothing where nobody watches.

    Args:
        doing: What the process is at, for the message; empty: the same as before. The time for starting ends with the
            first word that is not "starting".
    """
    global _doing
    if doing:
        _doing = doing
    if _current is not None:
        _current.beats += 1  # any change will do, so two threads may lose a count


def doing() -> str:
    """What this process was last said to be at."""
    return _doing


def show_stack_on_request() -> None:
    """For a data worker: prints where it is when the process it works for hangs."""
    faulthandler.register(STACK_REQUEST, all_threads=True, chain=False)
