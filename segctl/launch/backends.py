"""The places where jobs run. One more is one more entry of `BACKENDS`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from segctl.errors import LaunchError, did_you_mean, listing
from segctl.runs.records import Records, read
from segctl.runs.state import FINAL, Derived, Sight, derive

if TYPE_CHECKING:
    from pathlib import Path

    from segctl.config.schema import Launch
    from segctl.launch.machine import Machine
    from segctl.launch.plan import LaunchPlan
    from segctl.launch.submission import Submission
    from segctl.runs.run import Run
    from segctl.runs.sweeps import Sweep


class Backend(Protocol):
    """A place where jobs run. `look` is called by light commands: it imports neither torch nor submitit."""

    def plan(self, request: Launch, machine: Machine) -> LaunchPlan:
        """Decides, without side effects; LaunchError where the request cannot be met."""
        ...

    def accepts(self, plan: LaunchPlan, *, runs_dir: Path, place: str, dry_run: bool) -> tuple[str, ...]:
        """What the user should know of the plan before it is carried out; LaunchError where it never would be.

        `runs_dir` is to hold the run; `place` is the profile or backend that was asked for. With `dry_run` a plan may
        be for a place that cannot be reached from here.
        """
        ...

    def submit(self, run: Run, plan: LaunchPlan) -> Submission:
        """Starts and records the run's next attempt; LaunchError where that fails, RunError while one still runs."""
        ...

    def submit_sweep(self, sweep: Sweep, plan: LaunchPlan) -> None:
        """Starts and records all runs of a sweep; where that fails with an exception none is left to start."""
        ...

    def look(self, records: Sequence[Records], now: float, max_age: float) -> list[Sight]:
        """What the scheduler says of each run's newest attempt, asked once for all of them.

        An answer that is not older than `max_age` seconds may be given again.
        """
        ...

    def cancel(self, run: Run, records: Records) -> None:
        """Asks the job to stop with a checkpoint, and returns when all its processes are gone."""
        ...

    def cancel_all(self, jobs: Sequence[tuple[Run, Records]]) -> None:
        """The same for several jobs at once, those that wait for their turn first."""
        ...

    def requeue(self, run: Run, records: Records) -> None:
        """Asks the running job to save a checkpoint and to wait anew for its turn; RunError where it cannot."""
        ...


class Local:
    """This machine."""

    def plan(self, request: Launch, machine: Machine) -> LaunchPlan:
        from segctl.launch.plan import plan_local

        return plan_local(request, machine)

    def accepts(self, plan: LaunchPlan, *, runs_dir: Path, place: str, dry_run: bool) -> tuple[str, ...]:
        return ()  # the plan was made of what this machine has

    def submit(self, run: Run, plan: LaunchPlan) -> Submission:
        from segctl.launch.local.executor import submit

        return submit(run, plan)

    def submit_sweep(self, sweep: Sweep, plan: LaunchPlan) -> None:
        from segctl.launch.local.sweep import submit

        submit(sweep, plan)

    def look(self, records: Sequence[Records], now: float, max_age: float) -> list[Sight]:
        from segctl.launch.local.watch import look

        return [look(one, now) for one in records]

    def cancel(self, run: Run, records: Records) -> None:
        from segctl.launch.local.watch import cancel

        cancel(run, records)

    def cancel_all(self, jobs: Sequence[tuple[Run, Records]]) -> None:
        from segctl.launch.local.watch import cancel_all

        cancel_all(jobs)

    def requeue(self, run: Run, records: Records) -> None:
        from segctl.launch.local.watch import requeue

        requeue(run, records)


class Slurm:
    """A cluster, from one of its login nodes."""

    def plan(self, request: Launch, machine: Machine) -> LaunchPlan:
        from segctl.launch.slurm.plan import plan_slurm

        return plan_slurm(request)

    def accepts(self, plan: LaunchPlan, *, runs_dir: Path, place: str, dry_run: bool) -> tuple[str, ...]:
        from segctl.launch.slurm.limits import refuse
        from segctl.launch.slurm.shared_folder import unproven

        if dry_run and shutil.which("sbatch") is None:
            return ("There is no SLURM on this machine; whether the cluster would take the job was not looked at.",)
        return (*refuse(plan), *unproven(runs_dir, place))

    def submit(self, run: Run, plan: LaunchPlan) -> Submission:
        from segctl.launch.slurm.executor import submit

        return submit(run, plan)

    def submit_sweep(self, sweep: Sweep, plan: LaunchPlan) -> None:
        from segctl.launch.slurm.array import submit

        submit(sweep, plan)

    def look(self, records: Sequence[Records], now: float, max_age: float) -> list[Sight]:
        from segctl.launch.slurm.look import look

        return look(records, now, max_age)

    def cancel(self, run: Run, records: Records) -> None:
        from segctl.launch.slurm.cancel import cancel_all

        cancel_all([(run, records)])

    def cancel_all(self, jobs: Sequence[tuple[Run, Records]]) -> None:
        from segctl.launch.slurm.cancel import cancel_all

        cancel_all(jobs)

    def requeue(self, run: Run, records: Records) -> None:
        from segctl.launch.slurm.cancel import requeue

        requeue(run, records)


BACKENDS: Mapping[str, Backend] = {"local": Local(), "slurm": Slurm()}


def backend(name: str) -> Backend:
    """The backend of that name.

    Raises:
        LaunchError: There is none.
    """
    if name not in BACKENDS:
        near = did_you_mean(name, BACKENDS)
        raise LaunchError(f"{name!r} is not a place to run jobs on; there is {listing(sorted(BACKENDS))}.", near)
    return BACKENDS[name]


FRESH = 2.0  # seconds that a scheduler's answer may be old where somebody asks once
POLITE = 10.0  # and where a command keeps asking: a scheduler has others to serve


def observe(runs: Sequence[Run], now: float | None = None, *, max_age: float = FRESH) -> list[tuple[Records, Derived]]:
    """Each run's files, and the state that they and its scheduler amount to; each scheduler is asked only once.

    Args:
        runs: Which ones.
        now: Unix seconds.
        max_age: Seconds that a scheduler's answer may be old: `FRESH` for who asks once, `POLITE` for who keeps asking.
    """
    now = time.time() if now is None else now
    records = [read(run) for run in runs]
    sights = _look(records, now, max_age)
    # A job may have written its last word and ended between the two looks; whatever it wrote is there now.
    ended = [at for at, sight in enumerate(sights) if sight.state in FINAL and sight.rests_on != "supervisor.json"]
    for place in ended:
        records[place] = read(runs[place])
    for place, sight in zip(ended, _look([records[place] for place in ended], now, max_age), strict=True):
        sights[place] = sight
    return [(one, derive(one, sight, now)) for one, sight in zip(records, sights, strict=True)]


def _look(records: Sequence[Records], now: float, max_age: float) -> list[Sight]:
    sights: list[Sight] = [Sight("UNKNOWN", "it was submitted with a backend that this segctl does not have")] * len(
        records
    )
    for name, place_to_run in BACKENDS.items():
        places = [place for place, one in enumerate(records) if one.backend == name]
        seen = place_to_run.look([records[place] for place in places], now, max_age) if places else []
        for place, sight in zip(places, seen, strict=True):
            sights[place] = sight
    return sights
