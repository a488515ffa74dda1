"""Ending a SLURM job, or sending it back to the queue, in a way that saves a checkpoint first."""

from __future__ import annotations

import os
import subprocess
import time

from segctl.errors import RunError
from segctl.launch.cancel_request import request
from segctl.launch.environment import cleaned
from segctl.runs.records import Records, read
from segctl.runs.run import Run

_ENDS = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "STOPPED")
_ASK_EVERY = 1.0


def cancel(run: Run, records: Records) -> None:
    """Asks the job to stop, and returns when SLURM has let go of it.

    A job that waits is taken from the queue. One that runs saves a checkpoint first; should it not do it in time it is
    ended without.

    Raises:
        RunError: SLURM cannot be asked, or the job is another user's.
    """
    job = _job_of(run, records)
    request(run, records.number)
    if job is None:  # the submitting command was cut off before it got as far as sbatch
        return
    if _state(run, job) == "RUNNING":
        _scancel(run, "--batch", "--signal=USR2", job)
        _await_end(run, job, float(records.supervisor.get("stop_grace") or 60.0) + 30.0)
    if _state(run, job):
        _scancel(run, job)
        _await_end(run, job, 90.0)


def requeue(run: Run, records: Records) -> None:
    """Asks a running job to save and to go back to the queue; returns when it has been asked.

    Raises:
        RunError: It does not run, or SLURM cannot be asked.
    """
    job = _job_of(run, records)
    if job is None or _state(run, job) != "RUNNING":
        raise RunError(f"{run.id} does not run, so there is nothing to requeue.", f"See 'segctl status {run.id}'.")
    _scancel(run, "--batch", "--signal=USR2", job)


def _job_of(run: Run, records: Records) -> str | None:
    known = records.attempt.get("job_id") or records.supervisor.get("job_id")
    if known:
        return str(known)
    name = records.attempt.get("job_name")
    listed = _slurm(run, "squeue", "--noheader", "--format=%i", f"--name={name}").split() if name else []
    return listed[0] if listed else None


def _state(run: Run, job: str) -> str:
    """SLURM's word for a job that it still holds; empty for one that is gone."""
    try:
        state = _slurm(run, "squeue", "--noheader", "--format=%T", f"--jobs={job}").strip()
    except RunError as error:
        if "Invalid job id" in error.message:
            return ""
        raise
    return state.partition("\n")[0]


def _await_end(run: Run, job: str, seconds: float) -> None:
    """Waits for the leader's last word and for the queue to let go of the job."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        said = read(run).supervisor.get("state")
        if said in _ENDS and not _state(run, job):
            return
        if said not in (*_ENDS, "RUNNING", "REQUEUED") and not _state(run, job):
            return
        time.sleep(_ASK_EVERY)


def _scancel(run: Run, *arguments: str) -> None:
    _slurm(run, "scancel", *arguments)


def _slurm(run: Run, *words: str) -> str:
    try:
        done = subprocess.run(words, env=cleaned(os.environ), capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError as error:
        raise RunError(f"{run.id} is a SLURM job, but {words[0]} was not found here.", "Use a login node.") from error
    except subprocess.TimeoutExpired as error:
        raise RunError("SLURM does not answer.", "Try again when squeue does.") from error
    said = done.stderr.strip()
    if done.returncode != 0 or "error" in said:
        raise RunError(f"{run.id}: {words[0]} says: {said}.", "Try again when SLURM answers, or ask the job's owner.")
    return done.stdout
