"""`segctl cancel`: stops a run with a checkpoint, and leaves no process behind."""

from __future__ import annotations

from pathlib import Path

from segctl.errors import RunError
from segctl.launch.backends import backend, observe
from segctl.runs import store
from segctl.runs.run import Reference
from segctl.runs.state import FINAL
from segctl.status import RunStatus, of

__all__ = ["cancel"]


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
    return of([found])[0]


_ENDS = {
    "COMPLETED": "has completed",
    "FAILED": "has failed",
    "CANCELLED": "was cancelled",
    "TIMEOUT": "has reached its time limit",
}
