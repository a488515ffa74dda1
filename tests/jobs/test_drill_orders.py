"""What runs of a drill do beside training, what they keep unsaved, and how their checkpoints are compared."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from segctl.runs import store
from segctl.runs.run import Run
from segctl_jobs.checkpoint import CheckpointWriter
from segctl_jobs.drill.differences import differences
from segctl_jobs.drill.hidden_state import changed, kept
from segctl_jobs.drill.orders import Orders, orders


def run_with(tmp_path: Path, **record: object) -> Run:
    return store.create("", {"kind": "train", **record}, tmp_path / "runs")


def test_only_runs_of_a_drill_have_orders_and_only_their_first_start_obeys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drilled = run_with(tmp_path, drill={"eval_samples": 8, "hold_after": 3})

    assert orders(run_with(tmp_path)) is None
    assert orders(drilled) == Orders(drilled, 8, hold_after=3)
    for attempt, restart in ((1, 1), (2, 0)):
        monkeypatch.setenv("SEGCTL_ATTEMPT", str(attempt))
        monkeypatch.setenv("SEGCTL_RESTART", str(restart))
        assert orders(drilled) == Orders(drilled, 8)


def test_a_process_dies_between_writing_a_checkpoint_and_naming_it(tmp_path: Path) -> None:
    run = run_with(tmp_path, drill={"eval_samples": 8, "die_in_save": 4})
    code = f"""
from pathlib import Path
from segctl.runs.run import Run
from segctl_jobs.checkpoint import CheckpointWriter
from segctl_jobs.drill.orders import orders
run = Run(Path({str(run.path)!r}))
writer = CheckpointWriter(run.checkpoints, orders(run).before_checkpoint(lambda: None))
for step in (2, 4, 6):
    writer.save({{"step": step}})
    writer.wait()
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=120, check=False)

    assert done.returncode == -signal.SIGKILL
    names = sorted(path.name for path in run.checkpoints.iterdir())
    assert [name for name in names if not name.startswith(".")] == ["step-00000002.pt"]
    assert [name.startswith(".tmp-step-00000004.pt-") for name in names] == [True, False]


class Forgetful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)
        self.calls, self.width = 0, 3


class Data:
    def __init__(self) -> None:
        self.names = ["a"] * 1000
        self.seen: set[int] = set()
        self.recent: deque[float] = deque(maxlen=4)
        self.generator, self.dice = np.random.default_rng(0), random.Random(0)
        self.helper = Helper(self)


class Helper:
    def __init__(self, owner: Data) -> None:
        self.owner, self.cursor = owner, 0


def test_what_changes_without_being_saved_is_named() -> None:
    model, data, loss = Forgetful(), Data(), nn.BatchNorm1d(2)
    things = {"model": model, "loss": loss, "data set": data}
    before = kept(things)
    assert changed(before, kept(things)) == []

    model.head(torch.randn(2, 3, 4, 4))  # running statistics, which a checkpoint holds
    with torch.no_grad():
        next(model.parameters()).add_(1)
    assert changed(before, kept(things)) == []

    model.calls = 7
    model.scratch += 1
    loss(torch.randn(4, 2))
    data.seen.add(1)
    data.recent.append(0.5)
    data.generator.random()
    data.dice.random()
    data.helper.cursor = 2
    found = changed(before, kept(things))
    assert "model.calls (was 0, is 7)" in found
    assert "data set.helper.cursor (was 0, is 2)" in found
    assert {text.split(" (")[0] for text in found} == {
        *("model.calls", "model.scratch", "data set.seen", "data set.recent", "data set.recent.0"),
        *("loss.running_mean", "loss.running_var", "loss.num_batches_tracked"),
        *("data set.generator", "data set.dice", "data set.helper.cursor"),
    }


def test_checkpoints_are_compared_to_the_last_bit(tmp_path: Path) -> None:
    tensors = {"weight": torch.tensor([float("nan"), 0.0]), "steps": torch.tensor(3)}
    state = {"step": 4, "miou": 0.5, "model": tensors, "ema": None, "optimizer": {"groups": [{"lr": 0.1}]}}
    variants = {
        "same": {**state, "config": "another name"},
        "lower miou": {**state, "miou": 0.25},
        "negative zero": {**state, "model": {**tensors, "weight": torch.tensor([float("nan"), -0.0])}},
        "other type": {**state, "model": {**tensors, "steps": torch.tensor(3.0)}},
        "other optimizer": {**state, "optimizer": {"groups": [{"lr": 0.1}, {"lr": 0.2}]}},
        "nothing": {**state, "model": {"weight": tensors["weight"]}},
    }
    for name, variant in {"one": {**state, "config": "a name"}, **variants}.items():
        writer = CheckpointWriter(tmp_path / name)
        writer.save(variant)
        writer.wait()

    found = {name: differences(tmp_path / "one", tmp_path / name) for name in variants}

    assert found == {
        "same": (),
        "lower miou": ("miou",),
        "negative zero": ("model.weight",),
        "other type": ("model.steps",),
        "other optimizer": ("optimizer.groups.1.lr",),
        "nothing": ("model.steps",),
    }
