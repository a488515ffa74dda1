"""What srun says of its tasks when they end badly: a pure reading of its standard error.

    srun: error: n1: task 2: Exited with exit code 1
    srun: error: n0: tasks 0-1: Killed
    srun: error: n0: task 0: Segmentation fault (core dumped)
    srun: error: n2: task 3: Out Of Memory
    slurmstepd-n2: error: Detected 1 oom_kill event in StepId=12.0. Some of the step tasks have been OOM Killed.
    slurmstepd-n0: error: *** STEP 7.0 ON n0 CANCELLED AT 2026-11-22T18:56:56 DUE TO TIME LIMIT ***

The lines come in the order of the ends. With ``--kill-on-bad-exit`` srun then says that it terminates the step, and
whatever ends by a signal after that was killed by it.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass

_TASKS = re.compile(r"srun: error: (?P<host>\S+): tasks? (?P<tasks>[\d,-]+): (?P<what>.+)")
_EXIT_CODE = re.compile(r"Exited with exit code (?P<code>\d+)")
_TERMINATING = re.compile(
    r"srun: .*(Terminating (job step|StepId)|_step_signal|Job step aborted)|\*\*\* STEP .* CANCELLED AT"
)
_OUT_OF_MEMORY = re.compile(r"oom_kill event|OOM Killed|Out Of Memory", re.IGNORECASE)
_CANCELLED = re.compile(r"\*\*\* (STEP|JOB) \S+ ON \S+ CANCELLED AT \S+( DUE TO (?P<cause>[A-Z ]+?))? \*\*\*")
# Before any task was started, and for reasons that pass: a controller that is silent, a node that was slow to answer.
_NOT_STARTED = re.compile(
    r"srun: error: (?P<what>(Unable to (confirm allocation for|create step for) job|Application launch failed).*"
    r"(timed out|unable to contact|connect failure|connection refused|communication connection|credential expired).*)",
    re.IGNORECASE,
)
_BY_NAME = {name.lower(): number for number in signal.Signals if (name := signal.strsignal(number))}


@dataclass(frozen=True)
class TaskEnd:
    """How one task ended.

    Attributes:
        rank: Which one.
        host: Its node.
        code: Exit code; the negative number of the signal that ended it.
        after_the_first: It ended by a signal once srun had begun to end the step.
        out_of_memory: SLURM says that the memory limit ended it.
    """

    rank: int
    host: str
    code: int
    after_the_first: bool = False
    out_of_memory: bool = False


@dataclass(frozen=True)
class SrunReport:
    """Attributes:
    ends: Tasks that did not end with exit code 0, in the order of their ends.
    out_of_memory: The kernel ended some process of the step for its memory limit.
    cancelled: Why SLURM ended the step, such as ``TIME LIMIT``; empty where it gave no reason, None where it did not.
    """

    ends: tuple[TaskEnd, ...] = ()
    out_of_memory: bool = False
    cancelled: str | None = None


def read(text: str) -> SrunReport:
    """Reads what srun and the slurmstepds wrote to standard error."""
    ends: dict[int, TaskEnd] = {}
    terminating, cancelled = False, None
    for line in text.splitlines():
        for end in _ends(line, terminating):
            ends.setdefault(end.rank, end)
        if match := _CANCELLED.search(line):
            cancelled = match["cause"] or ""
        terminating = terminating or _TERMINATING.search(line) is not None
    return SrunReport(tuple(ends.values()), _OUT_OF_MEMORY.search(text) is not None, cancelled)


def why_not_started(text: str) -> str:
    """srun's own words where it started nothing, and may start it a moment later; empty where it did, or never will."""
    found = _NOT_STARTED.search(text)
    return found["what"].strip() if found is not None and not read(text).ends else ""


def _ends(line: str, terminating: bool) -> Iterator[TaskEnd]:
    match = _TASKS.match(line.strip())
    if match is None:
        return
    what = match["what"]
    code = _code(what)
    starved = _OUT_OF_MEMORY.search(what) is not None
    for rank in _numbers(match["tasks"]):
        yield TaskEnd(rank, match["host"], code, terminating and code < 0 and not starved, starved)


def _code(what: str) -> int:
    exited = _EXIT_CODE.search(what)
    if exited:
        return int(exited["code"])
    if _OUT_OF_MEMORY.search(what):
        return -signal.SIGKILL
    return -_BY_NAME.get(what.partition(" (core dumped)")[0].strip().lower(), signal.SIGKILL)


def _numbers(text: str) -> Iterator[int]:
    """``0,2-4`` is 0, 2, 3, 4."""
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
