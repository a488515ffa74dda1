"""`segctl status`: what every run is doing, read from its files."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segctl.launch.backends import FRESH, observe
from segctl.runs import store, sweeps, usage
from segctl.runs.records import Records
from segctl.runs.run import Reference, Run
from segctl.runs.state import FINAL, Derived, State
from segctl.runs.sweeps import Sweep

__all__ = ["RunStatus", "of", "ranked", "status"]


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
        host: Where; on a cluster its nodes, such as ``n[0-2]``, and empty until it has some.
        queue_reason: The scheduler's word for why it waits, such as ``Resources``.
        expected_start: When the scheduler expects it to begin; Unix seconds.
        attempt: How often it was submitted.
        restarts: How often the newest attempt was interrupted and went on by itself.
        phase: What the job says it is doing.
        data: Digests of the splits that it reads, taken at submission, by split; see `segctl.data_record`.
        epoch: Passes over the training split done so far, of `epochs`.
        step: Optimizer steps done, of `steps`.
        loss: Of the last recorded step.
        lr: Learning rate of the last recorded step.
        miou: Of the last evaluation, from 0 to 1; `best_miou` the best one.
        samples_per_second: Throughput over all processes.
        eta_seconds: Until the end, while it runs.
        created: Unix seconds.
        elapsed: Seconds the newest attempt has run, since its last restart.
        limit: Seconds it may run until it is interrupted.
        gpu_hours: What the newest attempt has used and not lost; None for one that has no GPU.
        gpu_hours_lost: Spent on steps that were done again, or not saved, and on starting again after interruptions.
        sweep: Id of the sweep that it belongs to.
        point: What it tries in that sweep: values by key.
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
    queue_reason: str
    expected_start: float | None
    attempt: int
    restarts: int
    phase: str | None
    model: str | None
    backbone: str | None
    dataset: str | None
    data: Mapping[str, Any] | None
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
    limit: float | None
    gpu_hours: float | None
    gpu_hours_lost: float | None
    device: str | None
    world_size: int | None
    sweep: str | None
    point: Mapping[str, Any] | None
    path: str


def status(
    references: Reference | Sequence[Reference] = (), *, runs_dir: Path | None = None, max_age: float = FRESH
) -> tuple[RunStatus, ...]:
    """The state and the figures of runs.

    Args:
        references: Which ones, by id, unique start of an id, name or path, in the order of the result; none: all,
            newest first. A sweep stands for all its runs, the best first; see `ranked`.
        runs_dir: Folder of the runs; default: $SEGCTL_RUNS, else ``runs``.
        max_age: Seconds that a scheduler's answer may be old; who keeps asking should give 10 or more.

    Raises:
        RunError: There is no such run or sweep, or it may mean several.
    """
    folder = store.runs_dir(runs_dir)
    if not references:
        statuses = of(store.all_runs(folder), max_age=max_age)
        return tuple(sorted(statuses, key=lambda one: (one.created, one.id), reverse=True))
    wanted = [references] if isinstance(references, (str, os.PathLike)) else references
    meant = [sweeps.meant(reference, folder) or store.find(reference, folder) for reference in wanted]
    runs = [one.present if isinstance(one, Sweep) else (one,) for one in meant]
    told = iter(of([run for group in runs for run in group], max_age=max_age))
    groups = [tuple(itertools.islice(told, len(group))) for group in runs]
    ordered = [ranked(group) if isinstance(one, Sweep) else group for one, group in zip(meant, groups, strict=True)]
    return tuple(itertools.chain.from_iterable(ordered))


def ranked(statuses: Sequence[RunStatus]) -> tuple[RunStatus, ...]:
    """The best mIoU first; then those without one that are still to come, and at last those that failed."""

    def place(one: RunStatus) -> tuple[int, float]:
        if one.state in ("FAILED", "LOST") or (one.best_miou is None and one.state in FINAL):
            return 2, 0.0
        return (0, -one.best_miou) if one.best_miou is not None else (1, -(one.epoch or 0.0))

    return tuple(sorted(statuses, key=place))


def of(runs: Sequence[Run], *, max_age: float = FRESH) -> tuple[RunStatus, ...]:
    """The same for runs that are known already."""
    now = time.time()
    seen = observe(runs, now, max_age=max_age)
    return tuple(_status(run, records, derived, now) for run, (records, derived) in zip(runs, seen, strict=True))


def _status(run: Run, records: Records, derived: Derived, now: float) -> RunStatus:
    # Until a resumed attempt speaks for itself, the figures of the one before it stand.
    figures = records.status or records.earlier_status
    running = derived.state in ("RUNNING", "STALLED") and bool(records.status)
    record, given = records.run, derived.allocation
    used = usage.used(records, derived.state, now)
    return RunStatus(
        id=run.id,
        name=record.get("name"),
        kind=str(record.get("kind", "train")),
        state=derived.state,
        why=derived.why,
        hint=derived.hint,
        rests_on=derived.rests_on,
        backend=records.backend,
        host=given.nodes
        if records.backend == "slurm"
        else str(records.attempt.get("host") or record.get("host") or ""),
        queue_reason=given.queue_reason,
        expected_start=given.expected_start,
        attempt=records.number,
        restarts=max(records.restart, given.restart or 0),
        phase=records.status.get("phase"),
        model=record.get("model"),
        backbone=record.get("backbone"),
        dataset=record.get("dataset"),
        data=record.get("data"),
        **{key: figures.get(key) for key in _FIGURES},
        eta_seconds=figures.get("eta_seconds") if running else None,
        created=float(record.get("created") or 0),
        elapsed=_elapsed(records, derived, now),
        limit=given.limit or _planned(records, "time_limit"),
        gpu_hours=used.useful / 3600 if used else None,
        gpu_hours_lost=used.lost / 3600 if used else None,
        sweep=record.get("sweep"),
        point=record.get("point"),
        path=str(run.path),
    )


_FIGURES = (
    *("epoch", "epochs", "step", "steps", "eval_done", "eval_total", "loss", "lr", "miou", "best_miou", "best_step"),
    *("samples_per_second", "device", "world_size"),
)


def _elapsed(records: Records, derived: Derived, now: float) -> float | None:
    unheard = (derived.allocation.restart or 0) > records.restart or not records.supervisor
    if unheard and derived.allocation.elapsed is not None:
        return derived.allocation.elapsed
    started = records.supervisor.get("started")
    if started is None:
        return None
    if derived.state in ("RUNNING", "STALLED"):
        return max(0.0, now - float(started))
    ended: Any = _ended(records.supervisor, records.status)
    return max(0.0, float(ended) - float(started)) if ended is not None else None


def _planned(records: Records, key: str) -> Any:
    plan = records.attempt.get("plan")
    return plan.get(key) if isinstance(plan, Mapping) else None


def _ended(supervisor: Mapping[str, Any], figures: Mapping[str, Any]) -> Any:
    return supervisor.get("ended") or figures.get("heartbeat")
