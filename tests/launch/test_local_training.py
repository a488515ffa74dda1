"""Trainings that are interrupted on this machine in every way end with the very weights of an undisturbed one."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import torch

from segctl.config.load import dump, resolve
from segctl.requeue import requeue
from segctl.runs import store
from segctl.runs.files import read_json
from segctl.runs.metrics import read as read_metrics
from segctl.runs.run import Run

if TYPE_CHECKING:
    from launched import Jobs

STEPS, BATCH = 80, 4
SAMPLES = STEPS * BATCH
SETTINGS = [
    *(
        "dataset.size=32",
        "dataset.samples=20",
        "dataset.eval_samples=2",
        "augment.crop=null",
        f"train.batch_size={BATCH}",
    ),
    *(f"train.steps={STEPS}", "train.eval_every=30", "train.workers=0", "train.ema=0.9", "train.log_every=1"),
    *("optimizer.name=adamw", "optimizer.lr=0.002"),
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Trainings:
    def __init__(self, jobs: Jobs, folder: Path) -> None:
        self._jobs, self._folder = jobs, folder

    def make(self) -> Run:
        config = resolve(None, {"model.name": "enet", "dataset.name": "paced_shapes"}, SETTINGS)
        run = store.create(dump(config), {"kind": "train", "model": "enet", "dataset": "paced_shapes"}, self._folder)
        self._jobs.made.append(run)
        return run

    def wait_for_step(self, run: Run, step: int, attempt: int, restart: int) -> None:
        def figures() -> tuple[int, int, int]:
            status = read_json(run.status_file) or {}
            return status.get("attempt", 0), status.get("restart", 0), status.get("step") or 0

        self._jobs.until(figures, lambda seen: seen[:2] == (attempt, restart) and seen[2] >= step)


@pytest.fixture
def trainings(tmp_path: Path, fragile_path: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Trainings, Jobs]]:
    from launched import Jobs

    monkeypatch.syspath_prepend(fragile_path)
    monkeypatch.setenv("PYTHONPATH", fragile_path, prepend=os.pathsep)
    jobs = Jobs(tmp_path / "runs")
    yield Trainings(jobs, tmp_path / "runs"), jobs
    jobs.clear_away()


def final_state(run: Run) -> dict[str, Any]:
    state = torch.load(run.checkpoints / f"step-{STEPS:08d}.pt", weights_only=True)
    assert isinstance(state, dict)
    return state


def losses(run: Run) -> list[tuple[int, float]]:
    return [(record["step"], record["loss"]) for record in read_metrics(run) if record["event"] == "train"]


def assert_same_training(one: Run, other: Run) -> None:
    first, second = final_state(one), final_state(other)
    for part in ("model", "ema"):
        assert first[part].keys() == second[part].keys()
        for name, value in first[part].items():
            assert torch.equal(value, second[part][name]), f"{part} {name}"
    for number, slots in first["optimizer"]["state"].items():
        for name, value in slots.items():
            assert torch.equal(value, second["optimizer"]["state"][number][name])
    for key in ("step", "best_step", "best_miou", "miou"):
        assert first[key] == second[key]
    assert [step for step, _ in losses(one)] == list(range(1, STEPS + 1))
    assert losses(one) == losses(other), "the loss curves differ, or a step was counted twice or not at all"


def rank_of(jobs: Jobs, run: Run) -> psutil.Process:
    """The one rank, as soon as it listens to SIGUSR2: it has just begun to load torch."""

    def listening() -> list[psutil.Process]:
        children = psutil.Process(jobs.supervisor(run).pid).children()
        return [child for child in children if _catches(child.pid, signal.SIGUSR2)]

    (rank,) = jobs.until(listening, bool)  # type: ignore[misc]
    return rank  # type: ignore[no-any-return]


def _catches(pid: int, signum: int) -> bool:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    (mask,) = (line.split()[1] for line in lines if line.startswith("SigCgt:"))
    return bool(int(mask, 16) >> (signum - 1) & 1)


def test_whatever_interrupts_a_training_it_loses_and_doubles_nothing(
    trainings: tuple[Trainings, Jobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its time limit again and again; and by requests, a killed rank and SIGTERM, one after the other."""
    some, jobs = trainings
    undisturbed, limited, disturbed = (some.make() for _ in range(3))
    jobs.submit(undisturbed)
    assert jobs.ended(undisturbed).state == "COMPLETED"
    starting = next(record["time"] for record in read_metrics(undisturbed) if record["event"] == "start")
    starting -= json.loads(undisturbed.supervisor_file.read_text())["started"]

    # A busy machine may have started that one slowly, and start the next at once: four turns of training alone, so
    # that three starts cannot reach the end, and at least eight seconds of training in each as starts go here.
    turn = math.ceil(starting + 8)
    monkeypatch.setenv("TEST_PACE", str(4 * turn / SAMPLES))
    jobs.submit(limited, time_limit=turn + 60, save_before=60)
    done = jobs.wait(limited, "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "LOST", seconds=600)
    assert done.state == "COMPLETED", done.why
    history = json.loads(limited.supervisor_file.read_text())["history"]
    assert len(history) >= 4, "it was to come back three times"
    assert {start["reason"] for start in history[:-1]} == {"after its time limit"}
    assert_same_training(undisturbed, limited)

    monkeypatch.setenv("TEST_PACE", "0.05")
    interrupt_in_every_other_way(some, jobs, disturbed)
    assert_same_training(undisturbed, disturbed)


def interrupt_in_every_other_way(some: Trainings, jobs: Jobs, run: Run) -> None:
    jobs.submit(run)
    rank_of(jobs, run)
    os.kill(jobs.supervisor(run).pid, signal.SIGUSR2)  # while torch is being loaded: it saves after its first step
    some.wait_for_step(run, 10, attempt=1, restart=1)
    assert json.loads(run.supervisor_file.read_text())["history"][1]["from_step"] == 1

    assert requeue(run, runs_dir=run.path.parent).state in ("REQUEUED", "RUNNING")
    some.wait_for_step(run, 20, attempt=1, restart=2)
    rank_of(jobs, run).kill()
    failed = jobs.ended(run)
    assert (failed.state, "was killed by SIGKILL" in failed.why) == ("FAILED", True)

    jobs.submit_again(run)
    some.wait_for_step(run, 35, attempt=2, restart=0)
    os.kill(jobs.supervisor(run).pid, signal.SIGTERM)
    stopped = jobs.ended(run)
    assert (stopped.state, stopped.why) == ("CANCELLED", "stopped by SIGTERM with a checkpoint")

    jobs.submit_again(run)
    assert jobs.ended(run).state == "COMPLETED"
    log = run.log_file(1, 0).read_text()
    assert all(f"training from step {step} to {STEPS}" in log for step in (0, 1)), "a log goes on over restarts"
