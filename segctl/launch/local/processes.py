"""Every process of a job: ranks that cannot outlive their supervisor, and all that they start, to be ended with it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

RUN_MARK = "SEGCTL_RUN_DIR"  # in the environment of each rank, and so of all that a rank starts: the run's directory
SUPERVISOR_MARK = "SEGCTL_SUPERVISOR"  # in the environment of each supervisor

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


def adopt_orphans() -> None:
    """Makes this process the parent of every descendant whose own parent ends: none gets out of sight (Linux)."""
    if _libc is not None:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def dies_with(parent: int) -> Callable[[], None]:
    """For a child, between fork and exec: the kernel kills it when its parent ends, however that ends (Linux)."""

    def tie() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != parent:  # it ended before the kernel knew
                os._exit(1)

    return tie


def kill_job(run_dir: Path, *, patience: float = 10.0) -> list[int]:
    """Ends every process of the run's job, those in other sessions and orphans included.

    Only for its supervisor: whatever descends from this process belongs to the job.

    Returns:
        Process numbers that outlive SIGKILL for longer than `patience` seconds, as one that waits for a dead network
        drive does.
    """
    return _kill_until_gone(lambda: [*_descendants(run_dir), *_marked(run_dir)], patience, bury)


def kill_strays(run_dir: Path, *, patience: float = 10.0) -> list[int]:
    """Ends what a job left behind whose supervisor is gone, found by the mark in its environment. For any process."""
    return _kill_until_gone(lambda: _marked(run_dir), patience, lambda: None)


def _kill_until_gone(
    find: Callable[[], Iterable[psutil.Process]], patience: float, after: Callable[[], object]
) -> list[int]:
    deadline = time.monotonic() + patience
    while True:
        remaining = [process for process in find() if _kill(process)]
        after()
        if not remaining or time.monotonic() > deadline:
            return sorted({process.pid for process in remaining})
        time.sleep(0.02)


def bury() -> dict[int, int]:
    """Reaps every child that has ended, adopted ones included: exit code (negative: signal) by process number."""
    ended = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = os.waitstatus_to_exitcode(status)
    return ended


def _descendants(run_dir: Path) -> Iterable[psutil.Process]:
    return [process for process in psutil.Process().children(recursive=True) if _belongs(process, run_dir)]


def _belongs(process: psutil.Process, run_dir: Path) -> bool:
    """Whether a descendant is this job's. What a job submitted itself is not: it has its own supervisor."""
    environment = _environment(process)
    mark = os.path.realpath(run_dir)
    return SUPERVISOR_MARK not in environment and environment.get(RUN_MARK, mark) == mark


def _marked(run_dir: Path) -> Iterable[psutil.Process]:
    mark = os.path.realpath(run_dir)
    wanted = os.fsencode(f"{RUN_MARK}={mark}")
    family = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for pid in psutil.pids():
        # The raw bytes are searched first: a whole machine's processes are looked through.
        if pid not in family and wanted in _raw_environment(pid):
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE and _environment(process).get(RUN_MARK) == mark:
                    yield process


def _raw_environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def _kill(process: psutil.Process) -> bool:
    """Sends SIGKILL; False where the process has ended already."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        process.kill()
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
    return True
