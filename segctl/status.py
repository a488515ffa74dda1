"""`segctl status`: what every run is doing, read from its files."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segctl.launch.backends import observe
from segctl.runs import store
from segctl.runs.records import Records
from segctl.runs.run import Reference, Run
from segctl.runs.state import Derived, State

__all__ = ["RunStatus", "of", "status"]


@dataclass(frozen=True)
class RunStatus:
    """One run at one moment; None where a figure is not known (yet).

    Attributes:
        id: The run's id.
        name: The name it was given.
        kind: ``train`` or ``eval``.
        state: See `segctl.runs.state`.
        why: Why it is in that state, in one line.
        hint: What can be done about it, in one line.
        rests_on: What the state was read from.
        backend: Who carries it out.
        host: Where.
        attempt: How often it was submitted.
        phase: What the job says it is doing.
        epoch: Passes over the training split done so far, of `epochs`.
        step: Optimizer steps done, of `steps`.
        loss: Of the last recorded step.
        lr: Learning rate of the last recorded step.
        miou: Of the last evaluation, from 0 to 1; `best_miou` the best one.
        samples_per_second: Throughput over all processes.
        eta_seconds: Until the end, while it runs.
        created: Unix seconds.
        elapsed: Seconds the newest attempt has run.
        path: The run's directory.
    """

    id: str
    name: str | None
    kind: str
    state: State
    why: str
    hint: str
    rests_on: str
    backend: str
    host: str
    attempt: int
    phase: str | None
    model: str | None
    backbone: str | None
    dataset: str | None
    epoch: float | None
    epochs: float | None
    step: int | None
    steps: int | None
    eval_done: int | None
    eval_total: int | None
    loss: float | None
    lr: float | None
    miou: float | None
    best_miou: float | None
    best_step: int | None
    samples_per_second: float | None
    eta_seconds: float | None
    created: float
    elapsed: float | None
    device: str | None
    world_size: int | None
    path: str


def status(references: Reference | Sequence[Reference] = (), *, runs_dir: Path | None = None) -> tuple[RunStatus, ...]:
    """The state and the figures of runs.

    Args:
        references: Which ones, by id, unique start of an id, name or path, in the order of the result; none: all,
            newest first.
        runs_dir: Folder of the runs; default: $SEGCTL_RUNS, else ``runs``.

    Raises:
        RunError: There is no such run, or it may mean several.
    """
    folder = store.runs_dir(runs_dir)
    if not references:
        statuses = of(store.all_runs(folder))
        return tuple(sorted(statuses, key=lambda one: (one.created, one.id), reverse=True))
    wanted = [references] if isinstance(references, (str, os.PathLike)) else references
    return of([store.find(reference, folder) for reference in wanted])


def of(runs: Sequence[Run]) -> tuple[RunStatus, ...]:
    """The same for runs that are known already."""
    now = time.time()
    return tuple(
        _status(run, records, derived, now) for run, (records, derived) in zip(runs, observe(runs, now), strict=True)
    )


def _status(run: Run, records: Records, derived: Derived, now: float) -> RunStatus:
    # Until a resumed attempt speaks for itself, the figures of the one before it stand.
    figures = records.status or records.earlier_status
    running = derived.state in ("RUNNING", "STALLED") and bool(records.status)
    record = records.run
    return RunStatus(
        id=run.id,
        name=record.get("name"),
        kind=str(record.get("kind", "train")),
        state=derived.state,
        why=derived.why,
        hint=derived.hint,
        rests_on=derived.rests_on,
        backend=records.backend,
        host=str(records.attempt.get("host") or record.get("host") or ""),
        attempt=records.number,
        phase=records.status.get("phase"),
        model=record.get("model"),
        backbone=record.get("backbone"),
        dataset=record.get("dataset"),
        **{key: figures.get(key) for key in _FIGURES},
        eta_seconds=figures.get("eta_seconds") if running else None,
        created=float(record.get("created") or 0),
        elapsed=_elapsed(records, derived, now),
        path=str(run.path),
    )


_FIGURES = (
    *("epoch", "epochs", "step", "steps", "eval_done", "eval_total", "loss", "lr", "miou", "best_miou", "best_step"),
    *("samples_per_second", "device", "world_size"),
)


def _elapsed(records: Records, derived: Derived, now: float) -> float | None:
    started = records.supervisor.get("started")
    if started is None:
        return None
    if derived.state in ("RUNNING", "STALLED"):
        return max(0.0, now - float(started))
    ended: Any = _ended(records.supervisor, records.status)
    return max(0.0, float(ended) - float(started)) if ended is not None else None


def _ended(supervisor: Mapping[str, Any], figures: Mapping[str, Any]) -> Any:
    return supervisor.get("ended") or figures.get("heartbeat")
