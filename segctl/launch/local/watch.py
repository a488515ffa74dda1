"""What can be seen of a job on this machine, and how it is ended. Light: neither torch nor submitit."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from segctl.errors import RunError
from segctl.launch.cancel_request import request
from segctl.runs.process import ProcessId, alive, hostname, identify, send
from segctl.runs.records import Records, read
from segctl.runs.run import Run
from segctl.runs.state import Sight

HANDOVER_SECONDS = 60.0  # how long the submitting command may take from recording an attempt to starting its job
_AT_ONCE = 16  # jobs that are ended at the same time
_ENDS = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")


def look(records: Records, now: float) -> Sight:
    """What the supervisor and the process table say of the newest attempt."""
    said = records.supervisor
    if said.get("state") in _ENDS:
        return Sight(said["state"], str(said.get("reason", "")), "supervisor.json")
    process = _supervisor(records)
    if process is None:
        return _not_started(records, now)
    living = alive(process)
    if living is None:
        return Sight("UNKNOWN", _why_unseen(process), f"process {process.pid} on {process.host}")
    if not living:
        return Sight("LOST", _why_lost(process), f"process {process.pid} is gone")
    if said.get("state") in ("RUNNING", "REQUEUED"):
        return Sight(said["state"], str(said.get("reason", "")), f"process {process.pid}")
    return Sight("PENDING", str(said.get("reason") or "is starting"), f"process {process.pid}")


def cancel(run: Run, records: Records) -> None:
    """Ends the newest attempt: its supervisor is asked; should it not do it, it is killed, and its ranks with it.

    Raises:
        RunError: The job cannot be reached from here, or belongs to another user.
    """
    process = _supervisor(records)
    if process is None and _not_started(records, time.time()).state == "PENDING":
        process = _await_supervisor(run)
    if process is None or alive(process) is False:
        _end_strays(run)
        return
    if alive(process) is None:
        raise RunError(
            f"{run.id} cannot be cancelled from here: {_why_unseen(process)}.",
            f"Run 'segctl cancel {run.id}' on {process.host}.",
        )
    request(run, records.number)
    try:
        send(process, signal.SIGTERM)
    except PermissionError as error:
        run.cancel_file.unlink(missing_ok=True)
        raise RunError(f"{run.id} is another user's job (process {process.pid}).", "Ask its owner.") from error
    if not _gone(process, _patience(run)):
        send(process, signal.SIGKILL)
        _gone(process, 5.0)
        _end_strays(run)


def cancel_all(jobs: Sequence[tuple[Run, Records]]) -> None:
    """Ends several attempts at once, those that wait for their turn first: none is to take the place of one that ends.

    Raises:
        RunError: As for `cancel`; the others have been ended all the same.
    """
    running = [job for job in jobs if job[1].supervisor.get("state") == "RUNNING"]
    waiting = [job for job in reversed(jobs) if job not in running]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for part in (waiting, running):
            list(pool.map(lambda job: cancel(*job), part))


def requeue(run: Run, records: Records) -> None:
    """Asks a job that runs to save and to wait for its next turn; returns when it does, or has ended otherwise.

    Raises:
        RunError: The job cannot be reached from here, or belongs to another user.
    """
    process = _supervisor(records)
    if process is None or alive(process) is None:
        why = _why_unseen(process) if process else "its supervisor is not known"
        raise RunError(f"{run.id} cannot be requeued from here: {why}.", f"Run 'segctl status {run.id}' for more.")
    try:
        send(process, signal.SIGUSR2)
    except PermissionError as error:
        raise RunError(f"{run.id} is another user's job (process {process.pid}).", "Ask its owner.") from error
    deadline = time.monotonic() + _patience(run)
    while alive(process) and time.monotonic() < deadline:
        now = read(run)
        if now.supervisor.get("state") != "RUNNING" or (now.number, now.restart) != (records.number, records.restart):
            return
        time.sleep(0.05)


def _supervisor(records: Records) -> ProcessId | None:
    return ProcessId.from_record(records.attempt) or ProcessId.from_record(records.supervisor)


def _await_supervisor(run: Run) -> ProcessId | None:
    """A cancel that comes while the submitting command is still at it."""
    for _ in range(50):
        process = _supervisor(read(run))
        if process is not None:
            return process
        time.sleep(0.1)
    return None


def _not_started(records: Records, now: float) -> Sight:
    since = float(records.attempt.get("submitted") or records.run.get("created") or 0)
    rests_on = "submission.json" if records.attempt else "the missing submission.json"
    if now - since < HANDOVER_SECONDS:
        return Sight("PENDING", "is being submitted", rests_on)
    return Sight("LOST", "the submitting command ended before it started the job", rests_on)


def _why_unseen(process: ProcessId) -> str:
    here = hostname()
    if process.host != here:
        return f"it runs on {process.host}, this is {here}"
    return "it runs in another container or for another user of this machine"


def _why_lost(process: ProcessId) -> str:
    me = identify(os.getpid())
    boot = process.started.rpartition("/")[0]
    if me is not None and me.started.rpartition("/")[0] != boot:
        return f"{process.host} was restarted while it ran"
    return f"its supervisor (process {process.pid}) is gone without a word: killed, or out of memory"


def _gone(process: ProcessId, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while alive(process) is not False:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _patience(run: Run) -> float:
    """Longer than the supervisor gives the ranks."""
    return float(read(run).supervisor.get("stop_grace") or 60.0) + 30.0


def _end_strays(run: Run) -> None:
    """What a job left whose supervisor was killed."""
    from segctl.launch.local.processes import kill_strays

    kill_strays(run.path)
