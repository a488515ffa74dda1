"""A sweep in this machine's queue: in order, not more at once than may, cancelled as a whole."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from segctl.cancel import cancel_sweep
from segctl.errors import LaunchError, RunError
from segctl.launch.backends import backend
from segctl.launch.local import executor as local
from segctl.launch.plan import LaunchPlan
from segctl.runs import sweeps
from segctl.runs.files import read_json
from segctl.runs.process import alive
from segctl.runs.run import Run
from segctl.runs.sweeps import Sweep
from segctl.status import RunStatus, of, ranked, status

if TYPE_CHECKING:
    from launched import Jobs

WAITS = """
import time
while not stop() and not (run_dir.parent / "go").exists():
    time.sleep(0.02)
"""


def prepared(jobs: Jobs, count: int, body: str = WAITS) -> Sweep:
    runs = [jobs.make(body) for _ in range(count)]
    folder = runs[0].path.parent
    return sweeps.create(sweeps.new_id("sweep", folder), folder, runs, [{"seed": place} for place in range(count)])


def submitted(jobs: Jobs, count: int, **changes: object) -> Sweep:
    sweep = prepared(jobs, count)
    backend("local").submit_sweep(sweep, jobs.plan(sweep=sweep.id, **changes))
    return sweep


def started(run: Run) -> float:
    return float((read_json(run.supervisor_file) or {})["started"])


def test_its_runs_start_in_order_and_not_more_at_once_than_may(jobs: Jobs) -> None:
    sweep = submitted(jobs, 3, max_running=2)
    alone = jobs.start("")
    assert jobs.ended(alone).state == "COMPLETED", "the limit is the sweep's own"
    jobs.wait(sweep.runs[1], "RUNNING")
    third = jobs.until(lambda: of([sweep.runs[2]])[0], lambda seen: "waits" in seen.why)
    assert (third.state, third.why) == ("PENDING", f"waits: 2 of {sweep.id} run already (--max-running)")
    (sweep.path.parent / "go").touch()
    assert [jobs.ended(run).state for run in sweep.runs] == ["COMPLETED"] * 3
    moments = [started(run) for run in sweep.runs]
    assert moments == sorted(moments)


def test_it_is_cancelled_as_a_whole(jobs: Jobs) -> None:
    sweep = submitted(jobs, 6, cpu_slots=2)
    jobs.wait(sweep.runs[1], "RUNNING")
    before = time.monotonic()
    stopped = cancel_sweep(sweep.path)
    assert time.monotonic() - before < 50, "all at once, not one after the other"
    assert [each.id for each in stopped] == [run.id for run in sweep.runs]
    assert {each.state for each in status(sweep.path)} <= {"CANCELLED", "COMPLETED"}
    assert [(read_json(run.supervisor_file) or {})["started"] for run in sweep.runs[2:]] == [None] * 4
    with pytest.raises(RunError, match="have ended"):
        cancel_sweep(sweep.path)


def test_nothing_goes_on_where_one_cannot_be_submitted(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = prepared(jobs, 3)
    submit = local.submit

    def full(run: Run, plan: LaunchPlan) -> object:
        if run == sweep.runs[2]:
            raise LaunchError("The disk is full.")
        return submit(run, plan)

    monkeypatch.setattr(local, "submit", full)
    with pytest.raises(LaunchError, match="full"):
        backend("local").submit_sweep(sweep, jobs.plan(sweep=sweep.id))
    assert not any(run.submission_file.exists() for run in sweep.runs)
    assert not any(alive(jobs.supervisor(run)) for run in sweep.runs[:2])


def test_the_best_is_first_and_what_failed_last(jobs: Jobs) -> None:
    (one,) = of([jobs.make("")])

    def run(name: str, state: str, miou: float | None = None, epoch: float | None = None) -> RunStatus:
        return replace(one, name=name, state=state, best_miou=miou, epoch=epoch)  # type: ignore[arg-type]

    runs = [
        *(run("failed late", "FAILED", 0.9), run("waits", "PENDING"), run("bad", "COMPLETED", 0.1)),
        *(run("begins", "RUNNING", None, 0.5), run("cancelled early", "CANCELLED"), run("good", "RUNNING", 0.6)),
        run("cancelled", "CANCELLED", 0.5),
    ]
    names = [each.name for each in ranked(runs)]
    assert names == ["good", "cancelled", "bad", "begins", "waits", "failed late", "cancelled early"]
