"""`segctl drill`: a short training is interrupted in every way, and has to end as the one that was left alone.

What it certifies is whatever takes part: a model, a loss, a data set, a machine, a cluster.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from segctl import bridge
from segctl.config.schema import Config
from segctl.drill_runs import DISTURBANCES, EVAL_SAMPLES, FEWEST_STEPS, UNDISTURBED, Disturbance, DrilledRun, Timetable
from segctl.drill_verdict import came_back_from, curve, first_difference, meaning, miscounted, missing
from segctl.errors import ConfigError, RunError, did_you_mean, listing
from segctl.launch.backends import POLITE, backend, observe
from segctl.launch.plan import LaunchPlan
from segctl.runs import metrics, store
from segctl.runs.files import read_json, read_json_lines
from segctl.runs.run import Run
from segctl.runs.state import FINAL
from segctl.submit import configured, plan_for, refuse_empty_shares, start

__all__ = ["Disturbed", "Drill", "drill"]

STEPS = 12
_LOOK_SECONDS = {"local": 0.2}  # between two looks at the runs; elsewhere a scheduler is asked
_LOOK_SECONDS_ELSEWHERE = 2.0


@dataclass(frozen=True)
class Disturbed:
    """What became of a run that was interrupted.

    Attributes:
        name: What befell it, a key of `segctl.drill_runs.DISTURBANCES`.
        what: The same in words.
        verdict: ``passed``: it ended as the undisturbed run, to the last bit. ``failed``: it came to no end, or its
            steps do not add up. ``skipped``: this may not be done here.
        why: Where it has not passed.
        run: Its id.
        starts: How often it started.
        came_back_from: The step that it went on from, the last time; None where it did not.
        first_difference: The first step whose loss, norm of the gradient or learning rate is another.
        differing: Entries of its last checkpoint that are others: weights, moving average, state of the optimizer.
    """

    name: str
    what: str
    verdict: Literal["passed", "differs", "failed", "skipped"]
    why: str
    run: str
    starts: int = 0
    came_back_from: int | None = None
    first_difference: int | None = None
    differing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Drill:
    """A drill's result.

    Attributes:
        passed: No disturbance made a difference, and at least one took place.
        why: What it usually means that one did.
        model: The model that was trained.
        dataset: The data set.
        backend: Where.
        processes: On how many processes.
        steps: For how many steps.
        undisturbed: Id of the run that was left alone.
        disturbances: The others.
        repeatable: Whether two undisturbed runs are equal; None where there was no need to find out.
        changed: What model, loss and data set were seen to keep from step to step without saving it; only where a
            disturbance made a difference.
        kept: The runs, where they were kept.
        notices: What the user should know although nothing is wrong.
        seconds: How long it took.
    """

    passed: bool
    why: str
    model: str
    dataset: str
    backend: str
    processes: int
    steps: int
    undisturbed: str
    disturbances: tuple[Disturbed, ...]
    repeatable: bool | None
    changed: tuple[str, ...]
    kept: tuple[Path, ...]
    notices: tuple[str, ...]
    seconds: float


def drill(
    recipe: str | Path | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
    steps: int = STEPS,
    only: Sequence[str] = (),
    runs_dir: Path | None = None,
    keep: bool = False,
    on_progress: Callable[[str], None] = lambda words: None,
) -> Drill:
    """Trains for a few steps, undisturbed and interrupted, and compares all losses and the final checkpoints.

    Its runs are called ``drill-...``. They are removed when all is well; else they are kept. Where it is interrupted
    itself its jobs are cancelled.

    Args:
        recipe: As for `segctl.train`; so are `flags` and `sets`. How long is trained, saved, evaluated and reported,
            and that it is with deterministic operations, the drill decides itself.
        steps: How many steps.
        only: Names of disturbances; none: all. They are the keys of `segctl.drill_runs.DISTURBANCES`.
        runs_dir: Folder of the runs; default: $SEGCTL_RUNS, else ``runs``.
        keep: Keep the runs even when all is well.
        on_progress: Is told, in words, how far it is.

    Raises:
        ConfigError: A setting is the drill's own, or `steps` or `only` is not possible.
        RunError: The undisturbed training does not complete.
        SegctlError: As for `segctl.train`.
    """
    began = time.monotonic()
    when = Timetable(_enough(steps))
    settings = _settings(when)
    _refuse_own_settings([*(flags or {}), *(text.partition("=")[0].strip() for text in sets)], settings)
    chosen = {name: DISTURBANCES[name] for name in _known(only)}
    config, weights, told = configured(recipe, flags or {}, (*sets, *settings), runs_dir)
    plan, limits = plan_for(config, store.runs_dir(runs_dir))
    refuse_empty_shares(config, plan)
    notices = (*told, *limits, *bridge.preflight(config, processes=plan.world_size))
    stage = _Stage(config, plan, weights, store.runs_dir(runs_dir), when, on_progress)
    try:
        alone, *disturbed = stage.carry_out({"undisturbed": UNDISTURBED, **chosen})
        found = tuple(_judged(each, alone.run, when) for each in disturbed)
        differs = any(each.verdict == "differs" for each in found)
        repeatable = stage.is_repeated(alone.run) if differs else None
    except KeyboardInterrupt:
        stage.cancel()
        stage.remove()
        raise
    except BaseException:
        stage.cancel()
        raise
    stage.cancel()
    verdicts = {each.verdict for each in found}
    passed = verdicts <= {"passed", "skipped"} and "passed" in verdicts
    if passed and not keep:
        stage.remove()
    changed = _changed(alone.run) if differs else ()
    return Drill(
        passed=passed,
        why=meaning(repeatable=bool(repeatable), changed=changed, on_gpu=plan.device == "cuda") if differs else "",
        model=config.model.name,
        dataset=config.dataset.name,
        backend=plan.backend,
        processes=plan.world_size,
        steps=when.steps,
        undisturbed=alone.run.id,
        disturbances=found,
        repeatable=repeatable,
        changed=changed,
        kept=tuple(run.path for run in stage.runs),
        notices=notices,
        seconds=time.monotonic() - began,
    )


class _Stage:
    """Where the runs of a drill are started, watched and cleared away."""

    def __init__(
        self,
        config: Config,
        plan: LaunchPlan,
        weights: Path | None,
        runs_dir: Path,
        when: Timetable,
        on_progress: Callable[[str], None],
    ) -> None:
        self.runs: list[Run] = []
        self._config, self._plan, self._weights, self._runs_dir = config, plan, weights, runs_dir
        self._when, self._tell = when, on_progress

    def carry_out(self, disturbances: Mapping[str, Disturbance]) -> list[DrilledRun]:
        """Starts all runs, lets befall them what is to, and returns when nothing more is to come.

        Raises:
            RunError: The first one, which is left alone, does not complete.
            SegctlError: A run cannot be submitted.
        """
        on_stage = [self._start(name, disturbance) for name, disturbance in disturbances.items()]
        pause = _LOOK_SECONDS.get(self._plan.backend, _LOOK_SECONDS_ELSEWHERE)
        while living := [each for each in on_stage if not each.over]:
            seen = observe([each.run for each in living], max_age=POLITE)
            for each, (records, state) in zip(living, seen, strict=True):
                each.go_on(records, state)
            if on_stage[0].problem:
                raise RunError(
                    f"The training does not complete even where it is left alone. {on_stage[0].problem}",
                    f"Its folder is {on_stage[0].run.path}.",
                )
            self._tell(f"Drill: {', '.join(each.progress for each in on_stage)}")
            time.sleep(pause)
        return on_stage

    def is_repeated(self, alone: Run) -> bool:
        """Whether a second undisturbed run gives the same as the first."""
        (again,) = self.carry_out({"undisturbed-again": UNDISTURBED})
        return _first_difference(again.run, alone) is None and not _differences(again.run, alone)

    def _start(self, name: str, disturbance: Disturbance) -> DrilledRun:
        orders = {"eval_samples": EVAL_SAMPLES, **disturbance.orders(self._when)}
        config = self._config.model_copy(update={"name": f"drill-{name}"})
        run = start("train", config, self._plan, self._runs_dir, weights=self._weights, drill=orders)
        self.runs.append(run)
        return DrilledRun(name, run, disturbance.script, self._when)

    def cancel(self) -> None:
        """Ends the jobs of runs that have not come to an end."""
        seen = zip(self.runs, observe(self.runs, max_age=0.0), strict=True)
        living = [(run, records) for run, (records, state) in seen if state.state not in FINAL]
        if living:
            self._tell("Drill: ending its jobs")
            backend(self._plan.backend).cancel_all(living)

    def remove(self) -> None:
        """Removes the runs, which must have ended."""
        while self.runs:
            store.remove(self.runs.pop())


def _judged(each: DrilledRun, alone: Run, when: Timetable) -> Disturbed:
    """What became of a run, beside the one that was left alone."""
    written = read_json_lines(each.run.metrics_file)
    back = came_back_from(written)
    told = Disturbed(
        name=each.name,
        what=each.what,
        verdict="skipped" if each.refused else "failed",
        why=each.refused or each.problem,
        run=each.run.id,
        starts=len(back) + 1,
        came_back_from=back[-1] if back else None,
    )
    if told.why:
        return told
    figures = curve(metrics.read(each.run))
    why = miscounted(written) or missing(figures, when.steps) or ("" if back else "it was not interrupted at all")
    if why:
        return replace(told, why=why)
    first, differing = _first_difference(each.run, alone), _differences(each.run, alone)
    if first is None and not differing:
        return replace(told, verdict="passed")
    return replace(told, verdict="differs", first_difference=first, differing=differing)


def _first_difference(one: Run, other: Run) -> int | None:
    return first_difference(curve(metrics.read(one)), curve(metrics.read(other)))


def _differences(one: Run, other: Run) -> tuple[str, ...]:
    return bridge.checkpoint_differences(one.checkpoints, other.checkpoints)


def _changed(alone: Run) -> tuple[str, ...]:
    return tuple(map(str, (read_json(alone.path / "drill.json") or {}).get("changed", ())))


def _settings(when: Timetable) -> tuple[str, ...]:
    """What is the drill's own to set."""
    return (
        f"train.steps={when.steps}",
        f"train.checkpoint_every={when.checkpoint_every}",
        "train.log_every=1",
        "train.eval_every=0",
        "train.keep_every=null",
        "train.deterministic=true",
        "launch.requeue=true",
        "launch.max_restarts=10",
    )


def _refuse_own_settings(keys: Sequence[str], settings: Sequence[str]) -> None:
    own = {"name", "train.epochs", *(text.partition("=")[0] for text in settings)}
    for key in keys:
        if key in own:
            raise ConfigError(f"{key}: a drill decides this itself.", "--steps says how many steps it takes.")


def _enough(steps: int) -> int:
    if steps < FEWEST_STEPS:
        raise ConfigError(
            f"--steps: {steps} steps leave no room to interrupt them between two checkpoints.",
            f"Give {FEWEST_STEPS} or more.",
        )
    return steps


def _known(only: Sequence[str]) -> Sequence[str]:
    for name in only:
        if name not in DISTURBANCES:
            near = did_you_mean(name, DISTURBANCES)
            raise ConfigError(f"--only: there is no disturbance {name!r}, but {listing(DISTURBANCES)}.", near)
    return [name for name in DISTURBANCES if not only or name in only]
