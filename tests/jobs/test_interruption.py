"""A training that is killed and resumed, however often, ends with the very weights of an undisturbed one."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
import torch
from ranks import finish, make_run, start, steps_done, wait_for_step

from segctl.runs.metrics import read as read_metrics
from segctl.runs.run import Run
from segctl_jobs import checkpoint

KILLS, STEPS = 20, 300

pytestmark = pytest.mark.usefixtures("no_rank_left_running")


def final_state(run: Run) -> dict[str, object]:
    state = checkpoint.newest(run.checkpoints)
    assert state is not None
    return state


def assert_same_training(one: Run, other: Run) -> None:
    first, second = final_state(one), final_state(other)
    for part in ("model", "ema"):
        for name, value in first[part].items():
            assert torch.equal(value, second[part][name]), f"{part} {name}"
    for number, slots in first["optimizer"]["state"].items():
        for name, value in slots.items():
            assert torch.equal(value, second["optimizer"]["state"][number][name])
    for key in ("step", "best_step", "best_miou", "miou"):
        assert first[key] == second[key]
    losses = [{r["step"]: r["loss"] for r in read_metrics(run) if r["event"] == "train"} for run in (one, other)]
    assert losses[0] == losses[1], "the loss curves differ, or a step was counted twice or not at all"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_change_nothing(tmp_path: Path, paced: str) -> None:
    settings = (f"train.steps={STEPS}", "dataset.name=paced_shapes")
    undisturbed, disturbed = (make_run(tmp_path / name, *settings) for name in ("a", "b"))
    finish(start(undisturbed, PYTHONPATH=paced), undisturbed)
    chance = random.Random(7)
    inside_a_save = 0
    for attempt in range(1, KILLS + 1):
        before = final_state(disturbed)["step"] if checkpoint.step_files(disturbed.checkpoints) else 0
        (process,) = start(disturbed, attempt, PYTHONPATH=paced, TEST_PACE="0.01")  # eighteen seconds for all of it
        # Half of the kills come while a checkpoint is being written, the others at any moment.
        wait_for_write = attempt % 2 == 0
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if wait_for_write and len(checkpoint.step_files(disturbed.checkpoints)) and steps_done(disturbed) > before:
                if any(disturbed.checkpoints.glob(".tmp-*")):
                    break
            elif not wait_for_write and steps_done(disturbed) > before:
                time.sleep(chance.uniform(0, 0.2))
                break
            time.sleep(0.0002 if wait_for_write else 0.005)
        process.kill()
        process.wait()
        inside_a_save += any(disturbed.checkpoints.glob(".tmp-*"))
    assert final_state(disturbed)["step"] < STEPS, "the kills came too late to prove anything"
    assert inside_a_save >= 3, "no kill fell inside the writing of a checkpoint"
    finish(start(disturbed, KILLS + 1, PYTHONPATH=paced), disturbed)
    assert_same_training(undisturbed, disturbed)
    assert not list(disturbed.checkpoints.glob(".tmp-*"))


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_costs_a_few_steps_and_changes_nothing(tmp_path: Path, paced: str) -> None:
    # The mean loss of steps 8 to 14 is recorded after the interruption, though some of them were done before it.
    settings = ("train.steps=20", "train.log_every=7", "dataset.name=paced_shapes")
    undisturbed, disturbed = make_run(tmp_path / "a", *settings), make_run(tmp_path / "b", *settings)
    finish(start(undisturbed, PYTHONPATH=paced), undisturbed)
    processes = start(disturbed, PYTHONPATH=paced, TEST_PACE="0.1")  # twelve seconds for all of it
    wait_for_step(10, processes, disturbed)
    processes[0].terminate()
    assert finish(processes, disturbed) == [75]
    newest = checkpoint.step_files(disturbed.checkpoints)[0]
    newest.write_bytes(newest.read_bytes()[:-1000])
    finish(start(disturbed, 2, PYTHONPATH=paced), disturbed)
    assert "damaged" in disturbed.log_file(2, 0).read_text() or "cannot be read" in disturbed.log_file(2, 0).read_text()
    assert_same_training(undisturbed, disturbed)


@pytest.mark.slow
def test_a_stop_saves_the_step_that_was_under_way_on_every_rank(tmp_path: Path, paced: str) -> None:
    settings = ("train.checkpoint_every=null", "train.eval_every=0", "dataset.name=paced_shapes")
    run = make_run(tmp_path / "run", *settings)
    processes = start(run, size=2, PYTHONPATH=paced, TEST_PACE="0.05")  # thirty seconds for all of it
    wait_for_step(4, processes, run)
    processes[1].terminate()  # only one rank is told; all must stop together
    assert finish(processes, run) == [75, 75]
    status = json.loads(run.status_file.read_text())
    assert status["phase"] == "stopped"
    assert final_state(run)["step"] == status["step"] >= 4


@pytest.mark.slow
def test_a_run_comes_back_on_another_number_of_processes(tmp_path: Path, paced: str) -> None:
    """The same samples in the same global batches: the loss curve goes on within rounding, which another order of the
    samples would not."""
    settings = ("train.steps=24", "train.eval_every=0", "optimizer.name=sgd", "optimizer.lr=0.01", "model.name=enet")
    settings += ("dataset.name=paced_shapes",)
    pair, moved = make_run(tmp_path / "pair", *settings), make_run(tmp_path / "moved", *settings)
    finish(start(pair, size=2, PYTHONPATH=paced), pair)
    processes = start(moved, size=2, PYTHONPATH=paced, TEST_PACE="0.2")  # fourteen seconds for all of it
    wait_for_step(8, processes, moved)
    for process in processes:
        process.terminate()
    finish(processes, moved)
    stopped_at = final_state(moved)["step"]
    assert 8 <= stopped_at < 24
    finish(start(moved, 2, size=1, PYTHONPATH=paced), moved)
    curves = [{r["step"]: r["loss"] for r in read_metrics(run) if r["event"] == "train"} for run in (pair, moved)]
    assert curves[0].keys() == curves[1].keys() == set(range(1, 25))
    before = [step for step in curves[0] if step <= stopped_at]
    assert [curves[0][step] for step in before] == [curves[1][step] for step in before]
    # Dropout draws differ with the number of processes, so the curves part slowly; the first step is the same batch.
    following = stopped_at + 1
    assert curves[1][following] == pytest.approx(curves[0][following], rel=0.05)
