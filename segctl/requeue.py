"""`segctl requeue`: a run saves, gives its place to the next one, and goes on when its turn comes again."""

from __future__ import annotations

from pathlib import Path

from segctl.errors import RunError
from segctl.launch.backends import backend, observe
from segctl.launch.restarts import refusal
from segctl.launch.submission import planned
from segctl.runs import store
from segctl.runs.records import Records
from segctl.runs.run import Reference, Run
from segctl.status import RunStatus, of

__all__ = ["requeue"]


def requeue(run: Reference, *, runs_dir: Path | None = None) -> RunStatus:
    """Asks a running run to save a checkpoint at its next step, and to wait for its next turn at the end of the queue.

    On this machine the command returns when it waits; on a cluster, when it has been asked.

    Args:
        run: Id, unique start of an id, name or path.
        runs_dir: Folder of the runs; default: $SEGCTL_RUNS, else ``runs``.

    Returns:
        The run's status after that.

    Raises:
        RunError: There is no such run, it does not run, it may not go on by itself, or it cannot be reached from here.
    """
    found = store.find(run, store.runs_dir(runs_dir))
    ((records, derived),) = observe([found])
    if derived.state not in ("RUNNING", "STALLED"):
        why = f": {derived.why}" if derived.why else ""
        raise RunError(f"{found.id} does not run, so it cannot be requeued; it is {derived.state}{why}.", derived.hint)
    _refuse_one_that_would_not_come_back(found, records)
    backend(records.backend).requeue(found, records)
    return of([found], max_age=0.0)[0]


def _refuse_one_that_would_not_come_back(run: Run, records: Records) -> None:
    plan = planned(run, records.number)
    # Of its history only the number of restarts matters here: why earlier ones ended is no reason against this one.
    why = refusal(plan, [{"restart": records.restart}], newest=0) if plan is not None else ""
    if why:
        raise RunError(
            f"{run.id} may not go on by itself: {why}.",
            f"Stop it with 'segctl cancel {run.id}', later continue it with 'segctl resume {run.id}'.",
        )
