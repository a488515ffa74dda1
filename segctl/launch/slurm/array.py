"""A sweep on a SLURM cluster: all its runs in one job array, with one sbatch; in several where the cluster limits them.

Each element is a run like any other; what it has of the array is its job's number, ``123_4``.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from submitit.core.utils import DelayedSubmission, JobPaths

from segctl.errors import LaunchError
from segctl.launch import payload
from segctl.launch.plan import LaunchPlan
from segctl.launch.slurm.chain import slurm_dependency
from segctl.launch.slurm.commands import said_by
from segctl.launch.slurm.executor import require, sbatch
from segctl.launch.slurm.plan import array_name, element_command, script
from segctl.launch.slurm.sightings import cluster_name
from segctl.launch.submission import AttemptRecord
from segctl.runs.code import snapshot_lines
from segctl.runs.process import hostname, user_name
from segctl.runs.run import Run
from segctl.runs.sweeps import Sweep

_THREADS = 16  # what is written goes to a disk across a network: waiting for it is most of the work
_DEFAULT_LIMIT = 1001  # SLURM's own
_LET_GO_SECONDS = 90.0

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Array:
    """A part of a sweep that is one job array.

    Attributes:
        number: From 1.
        first: Place of its first element in the sweep.
        size: How many elements it has; SLURM counts them from 0.
    """

    number: int
    first: int
    size: int


def arrays(count: int, limit: int) -> tuple[Array, ...]:
    """As few arrays as `count` elements need where none may have more than `limit`."""
    parts = range(0, count, limit)
    return tuple(Array(number, first, min(limit, count - first)) for number, first in enumerate(parts, 1))


def text_of(sweep: Path, array: Array, plan: LaunchPlan, dependency: str | None) -> str:
    """The batch script of an array.

    Args:
        sweep: The sweep's folder.
        array: Which part of it.
        plan: Of each element.
        dependency: As sbatch takes it.
    """
    throttle = f"%{plan.max_running}" if plan.max_running is not None else ""
    return script(
        plan,
        name=array_name(sweep.name, array.number),
        log=str(sweep / "logs" / f"array{array.number}-%a.log"),
        dependency=dependency,
        leader=element_command(str(sweep), array.first),
        array=f"0-{array.size - 1}{throttle}",
    )


def submit(sweep: Sweep, plan: LaunchPlan) -> None:
    """Sends all runs of a sweep; the intent is recorded before, the jobs' numbers after.

    Raises:
        LaunchError: SLURM does not take all of it, or is not there. Nothing is then left in its queue.
        OSError: A run's directory cannot be written; likewise.
    """
    require()
    sent: list[str] = []
    try:
        for array in arrays(len(sweep.runs), largest_array()):
            sent.append(_submit_array(sweep, array, plan, sent[-1] if sent else None))
    except (LaunchError, OSError):
        _take_back(sent)
        for run in sweep.runs:
            run.submission_file.unlink(missing_ok=True)
        raise


def largest_array() -> int:
    """How many elements an array may have.

    Raises:
        LaunchError: The cluster has none.
    """
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", said_by(["scontrol", "show", "config"]).out, re.MULTILINE)
    limit = int(match[1]) if match is not None else _DEFAULT_LIMIT
    if limit == 0:
        raise LaunchError(
            "This cluster has no job arrays (MaxArraySize is 0), with which a sweep is submitted.",
            "Submit its trainings one by one.",
        )
    return limit


def _submit_array(sweep: Sweep, array: Array, plan: LaunchPlan, previous: str | None) -> str:
    """Sends one array; returns its number."""
    name = array_name(sweep.id, array.number)
    runs = sweep.runs[array.first : array.first + array.size]
    with_code = replace(plan, setup=(*plan.setup, *snapshot_lines(runs[0])))  # all share the first one's
    text = text_of(sweep.path, array, with_code, _dependency(plan, previous))
    (sweep.path / f"array{array.number}.sh").write_text(text)

    def prepare(index: int) -> _Element:
        return _Element(runs[index], plan, name, array, index)

    elements = _all(prepare, range(array.size))
    _all(lambda element: element.intend(sweep), elements)
    job = sbatch(text)
    _all(lambda element: element.record(job), elements)
    return job


def _dependency(plan: LaunchPlan, previous: str | None) -> str | None:
    """What an array waits for: the run that all are to follow, and, where so many may run at once, the array before."""
    waits = [slurm_dependency(Run(Path(plan.after)))] if plan.after is not None else []
    waits += [f"afterany:{previous}"] if previous is not None and plan.max_running is not None else []
    return ",".join(waits) or None


class _Element:
    """One run of an array, on its way to SLURM."""

    def __init__(self, run: Run, plan: LaunchPlan, job_name: str, array: Array, index: int) -> None:
        self._run, self._array, self._index = run, array, index
        self._attempt = AttemptRecord(run, plan)
        self._identity: dict[str, str | int] = {
            "host": hostname(),
            "user": user_name(),
            "cluster": cluster_name(),
            "job_name": job_name,
            "element": index,
        }
        self._call = run.submitit / f"{uuid4().hex}.pkl"

    def intend(self, sweep: Sweep) -> None:
        """Records what is about to be done. By the job's name and its index its number can be found later."""
        self._run.submitit.mkdir(exist_ok=True)
        call = DelayedSubmission(payload.run_job, str(self._run.path))
        call.dump(self._call)
        # SLURM has one place for the output of all elements; each is to have it where every run has it.
        log = self._run.logs / f"attempt{self._attempt.number}-leader.log"
        os.symlink(log, sweep.logs / f"array{self._array.number}-{self._index}.log")
        self._attempt.write(**self._identity)

    def record(self, array_job: str) -> None:
        """Records the job's number; on a full disk it is left to be found by the job's name."""
        job = f"{array_job}_{self._index}"
        with contextlib.suppress(OSError):
            # By this name submitit looks for the call; the leader finds it by the other one, should it be faster.
            self._call.rename(JobPaths(self._run.submitit, job_id=job).submitted_pickle)
            self._attempt.write(**self._identity, job_id=job)


def _take_back(jobs: Sequence[str]) -> None:
    """Cancels arrays, and returns when SLURM has let go of them: their runs' folders are about to be removed."""
    if not jobs:
        return
    said_by(["scancel", *jobs])
    deadline = time.monotonic() + _LET_GO_SECONDS
    while time.monotonic() < deadline and said_by(["squeue", "--noheader", f"--jobs={','.join(jobs)}"]).out.strip():
        time.sleep(1.0)


def _all(act: Callable[[T], R], each: Sequence[T]) -> list[R]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(act, each))
