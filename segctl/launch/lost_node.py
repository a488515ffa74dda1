"""Taking a job's machine away from it, as far as a user may; `segctl drill` does it to its own runs."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping

from segctl.errors import RunError
from segctl.launch.slurm.commands import said_by
from segctl.runs.process import ProcessId, send
from segctl.runs.records import Records


def lose_node(records: Records) -> str:
    """Takes the machine away from a running job; returns how, in words.

    On one's own machine the supervisor is killed, and the kernel kills the ranks with it: as at a power failure,
    nobody leaves a word. On SLURM the job is requeued, which is what becomes of it when a node fails: SLURM ends all
    processes itself, and starts it anew.

    Raises:
        RunError: It may not be done here; says why.
    """
    return _WAYS[records.backend](records)


def _kill_supervisor(records: Records) -> str:
    process = ProcessId.from_record(records.supervisor)
    if process is None:
        raise RunError(f"The supervisor of {records.id} is not known.")
    send(process, signal.SIGKILL)
    return "the supervisor killed, as by a power failure"


def _requeue_by_slurm(records: Records) -> str:
    said = said_by(("scontrol", "requeue", str(records.attempt.get("job_id"))))
    if said.code != 0:
        raise RunError(f"scontrol requeue says: {said.err.strip() or said.code}.")
    return "scontrol requeue, as when a node fails"


_WAYS: Mapping[str, Callable[[Records], str]] = {"local": _kill_supervisor, "slurm": _requeue_by_slurm}
