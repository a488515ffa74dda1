"""`segctl train`, `eval` and `resume`: from what the user asked for to a submitted job.

Everything that can be refused is refused before the run's directory is made, and the directory is complete before the
job is submitted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from segctl import bridge, checkpoints, initial_weights, provenance, registry, snapshot
from segctl.config.load import dump, load, resolve
from segctl.config.schema import Config
from segctl.data_record import changes
from segctl.errors import ConfigError, RunError, SegctlError, listing
from segctl.launch import machine
from segctl.launch.backends import backend
from segctl.launch.plan import LaunchPlan, make_plan
from segctl.launch.slurm.chain import still_to_come
from segctl.profiles import implied
from segctl.runs import store
from segctl.runs.code import snapshot_path
from segctl.runs.run import Reference, Run
from segctl.runs.state import FINAL
from segctl.status import of

__all__ = ["Submitted", "evaluate", "resume", "train"]

# What an evaluation may do differently from the training; all else is the trained run's.
EVALUATION_KEYS = ("eval", "launch", "dataset", "data_root", "name")


@dataclass(frozen=True)
class Submitted:
    """A job that was handed over.

    Attributes:
        run: None where it was only tried (``dry_run``).
        config: What it runs.
        plan: How it is carried out.
        notices: What the user should know although nothing is wrong.
        follow_up: The evaluation that starts when the training has completed, where one was asked for.
    """

    run: Run | None
    config: Config
    plan: LaunchPlan
    notices: tuple[str, ...] = ()
    follow_up: Run | None = None


@registry.one_opening()
def train(
    recipe: str | Path | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
    runs_dir: Path | None = None,
    dry_run: bool = False,
    after: Reference | None = None,
    then: Literal["eval"] | None = None,
) -> Submitted:
    """Submits a training run and returns at once.

    Args:
        recipe: A recipe file, the name of a shipped recipe, or a run's config.yaml to replay.
        flags: Configuration keys and values that go before the recipe's, as in ``{"train.epochs": 5}``.
        sets: Assignments that go before all others, as in ``"train.epochs=5"``; values are read as YAML.
        runs_dir: Folder of the runs; default: $SEGCTL_RUNS, else ``runs``.
        dry_run: Check and plan only; nothing is written.
        after: A run that has to complete before this one starts.
        then: ``eval``: submit the evaluation of its best checkpoint too, to start when the training has completed.

    Raises:
        SegctlError: The configuration, the data or the machine do not allow it. Nothing is left behind.
    """
    config, weights, told = configured(recipe, flags or {}, sets, runs_dir)
    plan, limits = plan_for(config, store.runs_dir(runs_dir), dry_run=dry_run)
    if after is not None:
        plan = behind(store.find(after, store.runs_dir(runs_dir)), plan)
    refuse_empty_shares(config, plan)
    notices = (*told, *limits, *bridge.preflight(config, processes=plan.world_size))
    if dry_run:
        return Submitted(None, config, plan, (*notices, *would_freeze(config, runs_dir)))
    run = start("train", config, plan, runs_dir, weights=weights)
    follow_up = _evaluation_of(run, config, plan, runs_dir) if then == "eval" else None
    return Submitted(run, load(run.config_file), plan, notices, follow_up)


def configured(
    recipe: str | Path | None, flags: Mapping[str, Any], sets: Sequence[str], runs_dir: Path | None
) -> tuple[Config, Path | None, tuple[str, ...]]:
    """A training's configuration, the other run's checkpoint that it starts from, and what the user should know.

    Raises:
        SegctlError: See `segctl.config.load.resolve` and `segctl.initial_weights.settle`.
    """
    config = _one_way(resolve(recipe, flags, sets), flags)
    config, weights, told = initial_weights.settle(config, lambda name: trained_run(name, {}, runs_dir))
    return config, weights, (*implied(config, flags, sets), *told)


def plan_for(config: Config, runs_dir: Path, *, dry_run: bool = False) -> tuple[LaunchPlan, tuple[str, ...]]:
    """How a job will be carried out whose run is made in `runs_dir`, and what the user should know of that.

    Raises:
        LaunchError: The place does not have what is asked for, or would never start the job.
        RunError: No run can be made there.
    """
    plan = make_plan(config, machine.read())
    store.refuse_unwritable(runs_dir)
    place = config.launch.profile or config.launch.on
    return plan, backend(plan.backend).accepts(plan, runs_dir=runs_dir, place=place, dry_run=dry_run)


def behind(first: Run, plan: LaunchPlan) -> LaunchPlan:
    """The plan, to wait for another run where that has not completed yet.

    Raises:
        RunError: See `segctl.launch.slurm.chain.still_to_come`.
    """
    return replace(plan, after=str(first.path)) if still_to_come(first, plan.backend) else plan


def _evaluation_of(trained: Run, config: Config, plan: LaunchPlan, runs_dir: Path | None) -> Run:
    """Submits the evaluation of a training that is still to come; its checkpoint is looked for when its turn comes."""
    checkpoint = trained.checkpoints / "best.pt"
    config = config.model_copy(update={"name": None})
    return start("eval", config, replace(plan, after=str(trained.path)), runs_dir, checkpoint=checkpoint, of=trained.id)


@registry.one_opening()
def evaluate(
    run: Reference | None = None,
    *,
    match: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
    checkpoint: str = "best",
    runs_dir: Path | None = None,
    dry_run: bool = False,
) -> Submitted:
    """Submits the evaluation of a trained run, with that run's configuration, as a run of its own.

    Args:
        run: The trained run; default: the newest one that fits `match`.
        match: Any of ``model``, ``backbone`` and ``dataset`` of the trained run that is looked for.
        flags: Configuration keys and values that differ from the trained run's, as in ``{"eval.flip": True}``.
        sets: The same as assignments, as in ``"eval.mode=slide"``.
        checkpoint: ``best``, ``last`` or a file.
        runs_dir: As for `train`.
        dry_run: As for `train`.

    Raises:
        SegctlError: There is no such run or checkpoint, or it cannot be evaluated here. Nothing is left behind.
    """
    _refuse_training_keys([*(flags or {}), *(text.partition("=")[0] for text in sets)])
    trained = trained_run(run, match or {}, runs_dir)
    path, notices = checkpoints.choose(trained, checkpoint)
    # The trained run's name stays the trained run's alone.
    config = _one_way(resolve(trained.config_file, {"name": None, **(flags or {})}, sets), flags or {})
    plan, limits = plan_for(config, store.runs_dir(runs_dir), dry_run=dry_run)
    found = (*limits, *bridge.preflight_evaluation(config, path))
    where = implied(config, flags or {}, sets)
    other = _other_data(trained, "eval", config) if config.dataset == load(trained.config_file).dataset else ()
    notices = (f"{path.name} of {trained.id} is evaluated.", *where, *notices, *found, *other)
    if dry_run:
        return Submitted(None, config, plan, (*notices, *would_freeze(config, runs_dir)))
    submitted = start("eval", config, plan, runs_dir, checkpoint=path, of=trained.id)
    return Submitted(submitted, config, plan, notices)


@registry.one_opening()
def resume(run: Reference, *, flags: Mapping[str, Any] | None = None, runs_dir: Path | None = None) -> Submitted:
    """Submits the next attempt of a run, which goes on from the newest checkpoint that is whole.

    A run whose code was frozen goes on with that code.

    Args:
        run: Id, beginning of an id, name or path.
        flags: Keys of the section ``launch`` alone, as in ``{"launch.procs": 1}``: the result does not depend on these.

    Raises:
        RunError: It has completed, still runs, or cannot be seen from here.
        SegctlError: As for `train`.
    """
    found = store.find(run, store.runs_dir(runs_dir))
    if again := store.record(found).get("again"):
        raise RunError(f"{found.id} is a {store.record(found).get('kind')}.", f"'{again}' goes on where it stopped.")
    _refuse_unless_ended(found)
    frozen = bool(snapshot_path(found))
    config = _one_way(resolve(found.config_file, flags or {}, find_plugins=not frozen), flags or {})
    plan, limits = plan_for(config, found.path.parent)
    checkpoint = store.record(found).get("checkpoint")
    held = found.held_checkpoint if found.held_checkpoint.exists() else Path(checkpoint) if checkpoint else None
    if held is None:
        refuse_empty_shares(config, plan)
    going_on = held is None and checkpoints.exists(found)
    if frozen:
        notices = snapshot.preflight(found, processes=plan.world_size, from_checkpoint=going_on, checkpoint=held)
    elif held is not None:
        notices = bridge.preflight_evaluation(config, held)
    else:
        notices = bridge.preflight(config, processes=plan.world_size, from_checkpoint=going_on)
    other = _other_data(found, "eval" if held is not None else "train", config)
    backend(plan.backend).submit(found, plan)
    return Submitted(found, config, plan, (*limits, *notices, *other))


def _other_data(run: Run, kind: str, config: Config) -> tuple[str, ...]:
    """How the data that a run of `kind` would read differ from those that `run` was submitted with."""
    record = store.record(run)
    try:
        now = provenance.data(kind, config) if record.get("data") else {}
    except SegctlError:  # a split that this job does not need, or a plugin that is in the run's snapshot alone
        return ()
    return changes(record.get("data"), now, run.id)


def trained_run(reference: Reference | None, match: Mapping[str, str], runs_dir: Path | None) -> Run:
    """The training run that is meant, by reference or as the newest one that fits and has a checkpoint.

    Raises:
        RunError: There is none, or the one that was named is an evaluation.
    """
    folder = store.runs_dir(runs_dir)
    if reference is not None:
        if match:
            raise RunError(
                f"Both a run ({reference}) and {listing(f'--{key}' for key in match)} were given.", "Give one."
            )
        run = store.find(reference, folder)
        record = store.record(run)
        if record.get("kind") == "eval":
            raise RunError(f"{run.id} is itself an evaluation, of {record.get('of')}.", "Name the trained run.")
        return run
    wanted = ", ".join(f"{key} {value}" for key, value in match.items())
    of_that = f" of {wanted}" if wanted else ""
    fitting = [run for run in store.all_runs(folder) if _fits(store.record(run), match)]
    if not fitting:
        raise RunError(f"There is no training run{of_that} in {folder}.", "'segctl status' lists the runs.")
    for run in fitting:
        if checkpoints.exists(run):
            return run
    raise RunError(f"No training run{of_that} in {folder} has a checkpoint yet.", f"The newest is {fitting[0].id}.")


def _fits(record: Mapping[str, Any], match: Mapping[str, str]) -> bool:
    return record.get("kind") == "train" and all(_same_name(record.get(key), name) for key, name in match.items())


def _same_name(recorded: Any, asked: str) -> bool:
    """Plugins may be recorded as ``distribution:name`` and asked for by the bare name."""
    return recorded is not None and asked in (str(recorded), str(recorded).rpartition(":")[2])


def _refuse_training_keys(keys: Sequence[str]) -> None:
    for key in keys:
        if key.strip().split(".")[0] not in EVALUATION_KEYS:
            raise ConfigError(
                f"{key}: an evaluation takes this from the trained run.",
                f"It can differ in {listing(EVALUATION_KEYS)}.",
            )


def _refuse_unless_ended(run: Run) -> None:
    (found,) = of([run], max_age=0.0)
    if found.state == "COMPLETED":
        raise RunError(
            f"{run.id} has completed.",
            f"To train anew and longer: segctl train {os.path.relpath(run.config_file)} --epochs N.",
        )
    if found.state not in FINAL:
        raise RunError(f"{run.id} is {found.state}: {found.why}.", f"Stop it first: segctl cancel {run.id}")


def refuse_empty_shares(config: Config, plan: LaunchPlan) -> None:
    if config.train.batch_size < plan.world_size:
        raise ConfigError(
            f"train.batch_size: {config.train.batch_size} samples cannot be shared by {plan.world_size} processes.",
            "Use a larger batch or fewer processes.",
        )


def _one_way(config: Config, flags: Mapping[str, Any]) -> Config:
    """`launch.gpus` and `launch.procs` say one thing in two ways: the one that is given replaces the recipe's other."""
    launch = config.launch
    if "launch.procs" in flags and "launch.gpus" not in flags and launch.gpus:
        # On this machine the processes take the visible GPUs, if any; elsewhere they keep asking for one each.
        launch = launch.model_copy(update={"gpus": None if launch.on == "local" else launch.procs})
    elif "launch.gpus" in flags and "launch.procs" not in flags and launch.gpus:
        launch = launch.model_copy(update={"procs": None})
    return config.model_copy(update={"launch": launch})


def would_freeze(config: Config, runs_dir: Path | None) -> list[str]:
    return [snapshot.survey(config, store.runs_dir(runs_dir)).notice] if config.launch.snapshot else []


def start(
    kind: str,
    config: Config,
    plan: LaunchPlan,
    runs_dir: Path | None,
    *,
    checkpoint: Path | None = None,
    weights: Path | None = None,
    **facts: Any,
) -> Run:
    """Makes a run's directory and submits it; where that fails no run is left.

    Args:
        checkpoint: Of the run that is evaluated.
        weights: Another run's checkpoint that the training starts from.
    """
    origin = provenance.trace(kind, config)
    code = snapshot.survey(config, store.runs_dir(runs_dir)) if config.launch.snapshot else None
    frozen = {"snapshot": code.as_record()} if code is not None else {}

    def fill(run: Run) -> None:
        origin.keep_patches(run)
        if code is not None:
            snapshot.take(code, run)

    record = {**origin.record, **frozen, **facts}
    run = make_run(config, record, store.runs_dir(runs_dir), fill, checkpoint=checkpoint, weights=weights)
    try:
        backend(plan.backend).submit(run, plan)
    except BaseException:
        if not run.submission_file.exists():
            store.remove(run)
        raise
    return run


def make_run(
    config: Config,
    record: Mapping[str, Any],
    runs_dir: Path,
    fill: Callable[[Run], None],
    *,
    checkpoint: Path | None = None,
    weights: Path | None = None,
) -> Run:
    """Makes a run's directory, complete but for its submission; where that fails none is left.

    Args:
        config: What it runs.
        record: For run.json; see `segctl.runs.store.create`.
        runs_dir: Folder of the runs.
        fill: Puts into the directory what belongs to its provenance.
        checkpoint: Of the run that is evaluated.
        weights: Another run's checkpoint that the training starts from.
    """

    def text(run: Run) -> str:
        return dump(config if weights is None else initial_weights.named(config, run.initial_weights))

    run = store.create(text, {**record, **({"checkpoint": str(checkpoint)} if checkpoint else {})}, runs_dir)
    try:
        fill(run)
        if weights is not None:
            initial_weights.keep(weights, run)
        if checkpoint is not None:
            checkpoints.hold(checkpoint, run)
    except BaseException:
        store.remove(run)
        raise
    return run
