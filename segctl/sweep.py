"""`segctl train` with several values of a setting: a training for each combination, all submitted at once.

Every training is checked before the first one is submitted, and is then a run like any other.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segctl import bridge, provenance, registry, snapshot
from segctl.config import grid, yaml_core
from segctl.config.grid import Point
from segctl.config.schema import Config
from segctl.errors import ConfigError, SegctlError
from segctl.launch.backends import backend
from segctl.launch.plan import LaunchPlan
from segctl.plain_data import plain
from segctl.runs import store, sweeps
from segctl.runs.run import Reference, Run
from segctl.runs.sweeps import Sweep
from segctl.submit import behind, configured, make_run, plan_for, refuse_empty_shares, would_freeze

__all__ = ["Swept", "Trial", "sweep"]

_THREADS = 16  # folders are made on a disk that may be across a network
_LONGEST_NAME = 80

# What the check before submission does not look at: trainings that differ in nothing else are checked once.
_UNCHECKED = {
    "": ("name", "seed", "schedule", "launch"),
    "optimizer": ("lr", "betas", "weight_decay", "head_lr_factor"),
    "train": (
        *("epochs", "steps", "clip_norm", "ema", "channels_last", "compile", "deterministic", "workers"),
        *("log_every", "eval_every", "checkpoint_every", "keep_every"),
    ),
    "augment": ("flip", "max_class_share", "brightness", "contrast", "saturation", "hue", "blur"),
}


@dataclass(frozen=True)
class Trial:
    """One training of a sweep that has been checked.

    Attributes:
        point: What it tries.
        config: All of it.
        weights: Another run's checkpoint that it starts from.
    """

    point: Point
    config: Config
    weights: Path | None = None


@dataclass(frozen=True)
class Swept:
    """A sweep that was handed over.

    Attributes:
        sweep: None where it was only tried (``dry_run``).
        trials: Its trainings, in the order of the sweep's runs.
        plan: How each is carried out.
        notices: What the user should know although nothing is wrong.
    """

    sweep: Sweep | None
    trials: tuple[Trial, ...]
    plan: LaunchPlan
    notices: tuple[str, ...] = ()


def sweep(
    recipe: str | Path | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
    file: Path | None = None,
    max_running: int | None = None,
    runs_dir: Path | None = None,
    dry_run: bool = False,
    after: Reference | None = None,
    on_progress: Callable[[str], None] = lambda words: None,
) -> Swept:
    """Submits a training for each combination of values and returns at once; on SLURM as one job array.

    Args:
        recipe: As for `segctl.train`.
        flags: The same; they may not hold several values.
        sets: Assignments as for `segctl.train`; ``"optimizer.lr=0.01,0.005"`` gives several values.
        file: A YAML file with lists of values by key (a grid), or with a list of points.
        max_running: How many of the trainings may run at once; default: as many as there is room for.
        runs_dir: Folder of the runs; default: $SEGCTL_RUNS, else ``runs``.
        dry_run: Check and plan only; nothing is written.
        after: A run that has to complete before any of these starts.
        on_progress: Is told, in words, what is being done.

    Raises:
        SegctlError: One of the trainings is not possible; says which. Nothing is left behind.
    """
    if max_running is not None and max_running < 1:
        raise ConfigError(f"--max-running: {max_running} is not a number of runs.", "Give 1 or more.")
    rows = grid.points_of(yaml_core.document(file), str(file)) if file is not None else ({},)
    points = grid.points(sets, rows)
    with registry.one_look(), registry.one_opening():
        trials, name, told = _trials(recipe, flags or {}, points, runs_dir)
        plan, limits = plan_for(trials[0].config, store.runs_dir(runs_dir), dry_run=dry_run)
        if after is not None:
            plan = behind(store.find(after, store.runs_dir(runs_dir)), plan)
        plan = replace(plan, max_running=max_running)
        notices = (*told, *limits, *_preflight(trials, plan, on_progress))
        if dry_run:
            return Swept(None, trials, plan, (*notices, *would_freeze(trials[0].config, runs_dir)))
        on_progress(f"Submitting {len(trials)} trainings")
        return Swept(_submit(trials, plan, name, store.runs_dir(runs_dir)), trials, plan, notices)


def _trials(
    recipe: str | Path | None, flags: Mapping[str, Any], points: Sequence[Point], runs_dir: Path | None
) -> tuple[tuple[Trial, ...], str | None, tuple[str, ...]]:
    """Each point with its configuration, the sweep's name, and what the user should know."""
    trials: list[Trial] = []
    name: str | None = None
    told: dict[str, None] = {}
    seen: dict[str, int] = {}
    for number, point in enumerate(points, 1):
        with _named(point, number, len(points)):
            config, weights, notices = configured(recipe, flags, point.sets, runs_dir)
            same = seen.setdefault(_text(config.model_dump()), number)
            if same != number:
                raise ConfigError(
                    f"this is the same training as number {same}.", "A setting that is tried has no effect here."
                )
        name = config.name
        trials.append(Trial(point, config.model_copy(update={"name": _name(name, point, number)}), weights))
        told.update(dict.fromkeys(notices))
    return tuple(trials), name, tuple(told)


def _preflight(trials: Sequence[Trial], plan: LaunchPlan, on_progress: Callable[[str], None]) -> tuple[str, ...]:
    """Checks each training that differs in what is checked; returns all that the user should know, once."""
    told: dict[str, None] = {}
    distinct: dict[str, int] = {}
    for number, trial in enumerate(trials, 1):
        distinct.setdefault(_text(_checked(trial.config)), number)
    for done, number in enumerate(distinct.values(), 1):
        trial = trials[number - 1]
        if len(distinct) > 1:
            on_progress(f"Checking configuration, data and model, {done} of {len(distinct)}")
        with _named(trial.point, number, len(trials)):
            refuse_empty_shares(trial.config, plan)
            told.update(dict.fromkeys(bridge.preflight(trial.config, processes=plan.world_size)))
    return tuple(told)


def _checked(config: Config) -> dict[str, Any]:
    """The part of a configuration that the check before submission looks at."""
    sections = {name: dict(value) if isinstance(value, dict) else value for name, value in config.model_dump().items()}
    for section, keys in _UNCHECKED.items():
        for key in keys:
            (sections[section] if section else sections).pop(key)
    return sections


def _text(tree: Mapping[str, Any]) -> str:
    return json.dumps(plain(tree), sort_keys=True)


@contextlib.contextmanager
def _named(point: Point, number: int, count: int) -> Iterator[None]:
    """Errors say which of the trainings they are about."""
    try:
        yield
    except SegctlError as error:
        values = ", ".join(f"{key}={json.dumps(value)}" for key, value in point.values.items())
        raise type(error)(f"Training {number} of {count} ({values}): {error.message}", error.hint) from error


def _name(name: str | None, point: Point, number: int) -> str:
    """A run's name: the sweep's, and what this one tries, as far as there is room."""
    parts = [part for part in (name, grid.label(point.values)) if part]
    label = "-".join(parts)[:_LONGEST_NAME].rstrip("-._")
    return label if label[:1].isalnum() and label != name else "-".join([name or "point", str(number)])


def _submit(trials: Sequence[Trial], plan: LaunchPlan, name: str | None, runs_dir: Path) -> Sweep:
    """Writes all folders, then submits all jobs; where that fails nothing is left."""
    runs_dir.mkdir(parents=True, exist_ok=True)
    sweep_id = sweeps.new_id(name or _label([trial.config for trial in trials]), runs_dir)
    made: list[Run] = []
    found: Sweep | None = None
    try:
        found = _make(sweep_id, trials, name, runs_dir, made)
        backend(plan.backend).submit_sweep(found, replace(plan, sweep=sweep_id))
    except BaseException:
        unsubmitted = [run for run in made if not run.submission_file.exists()]
        for run in unsubmitted:
            store.remove(run)
        if found is not None and len(unsubmitted) == len(made):
            sweeps.remove(found)
        raise
    return found


def _make(sweep_id: str, trials: Sequence[Trial], name: str | None, runs_dir: Path, made: list[Run]) -> Sweep:
    """The folders of the runs, then the sweep's own, with the code and the patches that all share.

    Args:
        sweep_id: The sweep's.
        trials: Its trainings.
        name: The sweep's.
        runs_dir: Folder of the runs.
        made: Takes each run as soon as it is there.
    """
    origin = provenance.trace("train", trials[0].config)
    code = snapshot.survey(trials[0].config, runs_dir) if trials[0].config.launch.snapshot else None
    frozen = {"snapshot": code.as_record()} if code is not None else {}

    def share(run: Run) -> None:
        for there, folder in ((origin.patches, run.changes), (code, run.code)):
            if there:
                folder.symlink_to(Path("..", sweep_id, folder.name), target_is_directory=True)

    data = _data(trials)

    def make(number: int, trial: Trial) -> Run:
        facts = {"sweep": sweep_id, "point": dict(trial.point.values), "data": data[number]}
        created = float(origin.record["created"]) + number * 1e-6  # the order in which runs are listed
        record = {**origin.record, **provenance.chosen(trial.config), **frozen, **facts, "created": created}
        run = make_run(trial.config, record, runs_dir, share, weights=trial.weights)
        made.append(run)
        return run

    def fill(folder: Path) -> None:
        origin.keep_patches(Run(folder))
        if code is not None:
            snapshot.take(code, Run(folder))

    with ThreadPoolExecutor(_THREADS) as pool:
        runs = list(pool.map(make, range(len(trials)), trials))
    facts = {key: origin.record[key] for key in ("argv", "cwd", "host", "user")}
    points = [trial.point.values for trial in trials]
    return sweeps.create(sweep_id, runs_dir, runs, points, fill, name=name, **facts)


def _data(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """For each training the digests of its data; what several have in common is looked at once."""
    known: dict[str, dict[str, Any]] = {}
    found = []
    for config in (trial.config for trial in trials):
        key = _text({"dataset": config.dataset.model_dump(), "root": config.data_root, "split": config.eval.split})
        if key not in known:
            known[key] = provenance.data("train", config)
        found.append(known[key])
    return found


def _label(configs: Sequence[Config]) -> str:
    """What a sweep without a name is remembered by: what its trainings have in common."""
    models, datasets = {config.model.name for config in configs}, {config.dataset.name for config in configs}
    return "-".join(["sweep", *(next(iter(names)) for names in (models, datasets) if len(names) == 1)])
