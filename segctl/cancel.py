"""`segctl cancel`: stops a run with a checkpoint, and leaves no process behind."""

from __future__ import annotations

from pathlib import Path

from segctl.errors import RunError
from segctl.launch.backends import backend, observe
from segctl.runs import store, sweeps
from segctl.runs.run import Reference
from segctl.runs.state import FINAL
from segctl.status import RunStatus, of

__all__ = ["cancel", "cancel_sweep"]


def cancel(run: Reference, *, runs_dir: Path | None = None) -> RunStatus:
    """Asks a run to stop at its next step with a checkpoint, and waits until all its processes are gone.

    Ranks that do not stop in time (60 s, $SEGCTL_STOP_GRACE) are killed; asking a second time shortens that.

    Args:
        run: Id, unique start of an id, name or path.
        runs_dir: Folder of the runs; default: $SEGCTL_RUNS, else ``runs``.

    Returns:
        The run's status after that.

    Raises:
        RunError: There is no such run, it has ended already, or it cannot be reached from here.
    """
    found = store.find(run, store.runs_dir(runs_dir))
    ((records, derived),) = observe([found])
    if derived.state in FINAL - {"LOST"}:
        raise RunError(
            f"{found.id} is not running: it {_ENDS[derived.state]}.", f"'segctl status {found.id}' shows how it ended."
        )
    backend(records.backend).cancel(found, records)
    return of([found], max_age=0.0)[0]


def cancel_sweep(sweep: Reference, *, runs_dir: Path | None = None) -> tuple[RunStatus, ...]:
    """Stops all runs of a sweep that have not ended: those that wait at once, those that run with a checkpoint.

    Args:
        sweep: Id, unique start of an id, name or path.
        runs_dir: Folder of the runs; default: $SEGCTL_RUNS, else ``runs``.

    Returns:
        The status of those that were stopped.

    Raises:
        RunError: There is no such sweep, all its runs have ended, or one cannot be reached from here.
    """
    found = sweeps.find(sweep, store.runs_dir(runs_dir))
    seen = zip(found.present, observe(found.present), strict=True)
    living = [(run, records) for run, (records, derived) in seen if derived.state not in FINAL]
    if not living:
        raise RunError(f"All runs of {found.id} have ended.", f"'segctl status {found.id}' shows how.")
    for name in {records.backend for _, records in living}:
        backend(name).cancel_all([one for one in living if one[1].backend == name])
    return of([run for run, _ in living], max_age=0.0)


_ENDS = {
    "COMPLETED": "has completed",
    "FAILED": "has failed",
    "CANCELLED": "was cancelled",
    "TIMEOUT": "has reached its time limit",
}
