"""Ending SLURM jobs, or sending one back to the queue, in a way that saves a checkpoint first."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from segctl.errors import RunError
from segctl.launch.cancel_request import request
from segctl.launch.slurm.commands import Said, said_by
from segctl.runs.records import Records, read
from segctl.runs.run import Run

_ASK_EVERY = 1.0
_GONE = ("Invalid job id", "already completing or completed", "has finished")


class SilentError(RunError):
    """SLURM cannot be asked now."""


def cancel_all(jobs: Sequence[tuple[Run, Records]]) -> None:
    """Asks jobs to stop, and returns when SLURM has let go of them.

    Those that wait are taken from the queue, so that none takes the place of one that ends. Those that run save a
    checkpoint first; should one not do it in time it is ended without.

    Raises:
        RunError: SLURM cannot be asked, or a job is another user's.
    """
    for run, records in jobs:
        request(run, records.number)
    try:
        _end(jobs)
    except SilentError as error:
        raise RunError(
            f"{error.message} The request stands in the run's folder all the same: a job that runs stops at its next "
            "step with a checkpoint, one that waits ends as soon as it starts.",
            "'segctl status' shows what becomes of it.",
        ) from error
    except RunError:
        _withdraw(jobs)
        raise


def _end(jobs: Sequence[tuple[Run, Records]]) -> None:
    # A submitting command that was cut off before it got as far as sbatch has left no job.
    runs = {job: run for run, records in jobs if (job := _job_of(run, records)) is not None}
    grace = max((float(records.supervisor.get("stop_grace") or 60.0) for _, records in jobs), default=0.0)
    states = _states(runs)
    running = [job for job, state in states.items() if state == "RUNNING"]
    _scancel([job for job in states if job not in running])
    _scancel(running, "--batch", "--signal=USR2")
    _await_end(runs, grace + 30.0 if running else 90.0)
    if left := _states(runs):
        _scancel(list(left))
        _await_end(runs, 90.0)


def _withdraw(jobs: Sequence[tuple[Run, Records]]) -> None:
    """Takes the request back from jobs that SLURM does not let one end, such as another user's."""
    runs = {job: run for run, records in jobs if (job := _job_of(run, records)) is not None}
    for job in _states(runs):
        runs[job].cancel_file.unlink(missing_ok=True)


def requeue(run: Run, records: Records) -> None:
    """Asks a running job to save and to go back to the queue; returns when it has been asked.

    Raises:
        RunError: It does not run, or SLURM cannot be asked.
    """
    job = _job_of(run, records)
    if job is None or _states([job]).get(job) != "RUNNING":
        raise RunError(f"{run.id} does not run, so there is nothing to requeue.", f"See 'segctl status {run.id}'.")
    _scancel([job], "--batch", "--signal=USR2")


def _job_of(run: Run, records: Records) -> str | None:
    """Its number; by the job's name where the submitting command was cut off before it recorded the number."""
    known = records.attempt.get("job_id") or records.supervisor.get("job_id")
    if known:
        return str(known)
    name, element = records.attempt.get("job_name"), records.attempt.get("element")
    listed = _slurm("squeue", "--noheader", "--array", "--format=%i", f"--name={name}").split() if name else []
    fitting = [job for job in listed if element is None or job.endswith(f"_{element}")]
    return fitting[0] if fitting else None


def _states(jobs: Collection[str]) -> dict[str, str]:
    """SLURM's word for each of the jobs that it still holds."""
    if not jobs:
        return {}
    numbers = dict.fromkeys(job.partition("_")[0] for job in jobs)  # of a job array, all elements at once
    try:
        listed = _slurm("squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={','.join(numbers)}")
    except RunError as error:
        if "Invalid job id" in error.message:
            return {}
        raise
    found = dict(line.split(maxsplit=1) for line in listed.splitlines() if line.strip())
    return {job: found[job].strip() for job in jobs if job in found}


def _await_end(runs: Mapping[str, Run], seconds: float) -> None:
    """Waits for the leaders' last words and for the queue to let go of the jobs."""
    deadline = time.monotonic() + seconds
    waited_for = dict(runs)
    while waited_for and time.monotonic() < deadline:
        held = _states(waited_for)
        waited_for = {job: run for job, run in waited_for.items() if job in held or not _has_spoken(run)}
        if waited_for:
            time.sleep(_ASK_EVERY)


def _has_spoken(run: Run) -> bool:
    """Whether nothing more is to come from a job that has left the queue: it never began, or has said how it ended."""
    return read(run).supervisor.get("state") != "RUNNING"


def _scancel(jobs: Sequence[str], *options: str) -> None:
    """Those that have ended meanwhile are no error."""
    if not jobs:
        return
    said = _said_by("scancel", *options, *jobs)
    left = [line for line in said.err.splitlines() if not any(word in line for word in _GONE)]
    if left and (said.code != 0 or any("error" in line for line in left)):
        raise _refused("scancel", "; ".join(left))


def _slurm(*words: str) -> str:
    said = _said_by(*words)
    if said.code != 0:
        raise _refused(words[0], said.err)
    return said.out


def _said_by(*words: str) -> Said:
    said = said_by(words)
    if said.absent:
        raise RunError(f"A job on SLURM is meant, but {words[0]} was not found here.", "Use a login node.")
    if said.unreachable:
        raise SilentError("SLURM does not answer.", "Try again when squeue does.")
    return said


def _refused(command: str, said: str) -> RunError:
    return RunError(f"{command} says: {said}.", "Try again when SLURM answers, or ask the job's owner.")
