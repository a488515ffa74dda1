"""What an earlier start of a run left behind does not write any more once a later one has begun."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from ranks import finish, make_run, start, steps_done, wait_for_step

from segctl.runs import error_record, fence, metrics
from segctl.runs.attempt import Attempt
from segctl.runs.fence import Fence, SupersededError, claim, successor
from segctl.runs.run import Run
from segctl_jobs.main import EXIT_SUPERSEDED

pytestmark = pytest.mark.usefixtures("no_rank_left_running")


def test_only_the_newest_start_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path)
    old = Fence(run)  # attempt 1, as the environment does not say otherwise
    old.check(now=True)
    claim(run)
    old.check(now=True)
    assert json.loads(run.current_file.read_text())["attempt"] == 1

    claim(run, Attempt(1, 2), job_id="77")
    current = json.loads(run.current_file.read_text())
    assert (current["attempt"], current["restart"], current["job_id"]) == (1, 2, "77")
    with pytest.raises(SupersededError, match="attempt1-restart2"):
        old.check(now=True)
    with pytest.raises(SupersededError):
        claim(run)
    assert successor(run) == Attempt(1, 2)
    assert successor(run, Attempt(1, 2)) is None
    claim(run, Attempt(2))
    assert successor(run, Attempt(1, 2)) == Attempt(2, 0)

    error_record.write(run, ValueError("late"), rank=0)
    assert not run.errors.exists()
    monkeypatch.setenv("SEGCTL_ATTEMPT", "2")
    error_record.write(run, ValueError("mine"), rank=0)
    assert json.loads(run.error_file(0).read_text())["message"] == "mine"


def test_a_look_holds_for_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, clock = Run(tmp_path), [100.0]
    monkeypatch.setattr(fence.time, "monotonic", lambda: clock[0])
    mine = Fence(run)
    mine.check()
    claim(run, Attempt(2))
    clock[0] += 0.9
    mine.check()
    clock[0] += 0.2
    with pytest.raises(SupersededError):
        mine.check()


def test_a_torn_or_missing_file_stops_nobody(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.current_file.write_text('{"attempt": 9')
    Fence(run).check(now=True)
    claim(run)
    assert successor(run) is None


@pytest.mark.slow
def test_a_process_that_comes_back_after_its_successor_writes_nothing(tmp_path: Path, paced: str) -> None:
    """Stopped and continued, as on a node that was given up and lives."""
    settings = ("train.steps=60", "train.eval_every=0", "train.checkpoint_every=3", "dataset.name=paced_shapes")
    run = make_run(tmp_path / "run", *settings)
    (orphan,) = start(run, PYTHONPATH=paced, TEST_PACE="0.02")  # seven seconds for all of it
    wait_for_step(10, [orphan], run)
    orphan.send_signal(signal.SIGSTOP)
    time.sleep(0.2)
    held = steps_done(run)
    finish(start(run, attempt=2, PYTHONPATH=paced), run)
    after = {path: path.read_bytes() for path in sorted(run.path.rglob("*")) if path.is_file() and is_truth(path, run)}
    orphan.send_signal(signal.SIGCONT)

    assert orphan.wait(timeout=120) == EXIT_SUPERSEDED
    now = {path: path.read_bytes() for path in sorted(run.path.rglob("*")) if path.is_file() and is_truth(path, run)}
    assert now == after
    assert "attempt2 of run has begun" in run.log_file(1, 0).read_text()
    assert held < 60
    steps = [record["step"] for record in metrics.read(run) if record["event"] == "train"]
    assert steps == list(range(1, 61)), "every step once"
    assert not run.errors.exists()


def is_truth(path: Path, run: Run) -> bool:
    """The orphan's own log may grow, and so may the curves, which are drawn from the truth."""
    return path.relative_to(run.path).parts[0] not in ("logs", "tensorboard")
