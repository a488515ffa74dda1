"""`segctl logs`: what one rank printed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from segctl.errors import RunError, listing
from segctl.launch.backends import POLITE, observe
from segctl.runs import store
from segctl.runs.run import Reference, Run
from segctl.runs.state import FINAL

__all__ = ["logs"]

_POLL_SECONDS = 0.2
_STATE_SECONDS = 1.0
_NAME = re.compile(r"attempt(\d+)-rank(\d+)\.log")


def logs(run: Reference, *, rank: int = 0, follow: bool = False, runs_dir: Path | None = None) -> Iterator[str]:
    """The lines that a rank of the newest attempt printed, without their ends.

    Args:
        run: Id, unique start of an id, name or path.
        rank: Which process.
        follow: Go on with new lines, over restarts too, until the run has ended.
        runs_dir: Folder of the runs; default: $SEGCTL_RUNS, else ``runs``.

    Raises:
        RunError: There is no such run or rank, or it has not printed anything (and is not followed).
    """
    found = store.find(run, store.runs_dir(runs_dir))
    ((records, derived),) = observe([found])
    attempt = max(records.number, 1)
    waiting = follow and derived.state not in FINAL
    if not found.log_file(attempt, rank).exists() and not (waiting and _may_come(found, attempt, rank)):
        ended_early = derived.state in ("FAILED", "LOST") and not _ranks(found, attempt)
        if ended_early and rank == 0 and found.supervisor_log.exists():
            return _read(found.supervisor_log)
        raise RunError(*_nothing(found, attempt, rank, f"{derived.state}{f': {derived.why}' if derived.why else ''}"))
    return _follow(found, attempt, rank) if waiting else _read(found.log_file(attempt, rank))


def _read(path: Path) -> Iterator[str]:
    with path.open(errors="replace", newline="\n") as file:
        for line in file:
            yield line.rstrip("\r\n")


def _follow(run: Run, attempt: int, rank: int) -> Iterator[str]:
    while True:
        yield from _follow_attempt(run, attempt, rank)
        newest = _attempt_now(run)
        if newest == attempt:
            return
        attempt = newest


def _follow_attempt(run: Run, attempt: int, rank: int) -> Iterator[str]:
    """Lines as they are written, until that attempt has ended and all of it is read."""
    path = run.log_file(attempt, rank)
    ended, looked, rest = False, 0.0, ""
    file: IO[str] | None = None
    try:
        while True:
            if file is None and path.exists():
                file = path.open(errors="replace", newline="\n")
            new = file.read() if file is not None else ""
            *lines, rest = (rest + new).split("\n")
            yield from (line.rstrip("\r") for line in lines)
            if not new and ended:
                break
            if not new:
                time.sleep(_POLL_SECONDS)
            if time.monotonic() - looked > _STATE_SECONDS:
                ended, looked = _has_ended(run, attempt), time.monotonic()
        if rest:
            yield rest
    finally:
        if file is not None:
            file.close()


def _has_ended(run: Run, attempt: int) -> bool:
    ((records, derived),) = observe([run], max_age=POLITE)
    return derived.state in FINAL or records.number != attempt


def _attempt_now(run: Run) -> int:
    return max(observe([run], max_age=POLITE)[0][0].number, 1)


def _may_come(run: Run, attempt: int, rank: int) -> bool:
    """Whether a rank that has not printed yet may still do so: ranks are started together."""
    return not _ranks(run, attempt) and rank >= 0


def _ranks(run: Run, attempt: int) -> list[int]:
    names = (_NAME.fullmatch(path.name) for path in run.logs.glob("attempt*-rank*.log"))
    return sorted(int(name[2]) for name in names if name and int(name[1]) == attempt)


def _nothing(run: Run, attempt: int, rank: int, state: str) -> tuple[str, str]:
    ranks = _ranks(run, attempt)
    if ranks:
        return (
            f"{run.id} has no rank {rank}.",
            f"It has {'rank' if len(ranks) == 1 else 'ranks'} {listing(map(str, ranks))}.",
        )
    return f"{run.id} has not printed anything: it is {state}.", f"'segctl logs {run.id} -f' waits for it."
