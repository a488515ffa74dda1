"""`segctl drill` with real jobs on this machine: what it lets pass, and what it catches."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from installed import install

import segctl
from segctl.cancel import cancel
from segctl.drill import Drill
from segctl.drill_runs import Timetable
from segctl.drill_verdict import came_back_from, curve, first_difference, meaning, miscounted, missing, shortened
from segctl.errors import ConfigError, RunError
from segctl.runs import store
from segctl.runs.state import FINAL
from segctl.status import status

SEGCTL = str(Path(sys.executable).with_name("segctl"))
SMALL = [
    *("dataset.samples=12", "dataset.eval_samples=4", "augment.crop=32"),
    *("train.batch_size=4", "train.workers=0", "launch.gpus=0"),
]


@pytest.fixture
def forgetful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugins of forgetful_plugin.py are installed, here and in jobs."""
    module = Path(__file__).with_name("forgetful_plugin.py")
    folder = install(
        *(tmp_path / "plugins", "forgetful", {module.name: module}),
        models={"counting": "forgetful_plugin:counting", "wandering": "forgetful_plugin:wandering"},
        losses={"averaging": "forgetful_plugin:Averaging"},
        datasets={"fading": "forgetful_plugin:Fading"},
    )
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)


def drill(model: str = "enet", dataset: str = "shapes", *sets: str, **options: Any) -> Drill:
    return segctl.drill(flags={"model.name": model, "dataset.name": dataset}, sets=[*SMALL, *sets], **options)


def command(model: str, *argv: object) -> list[str]:
    small = [word for each in SMALL for word in ("--set", each)]
    return [SEGCTL, "drill", "--model", model, "--dataset", "shapes", *small, *map(str, argv)]


def segctl_drill(model: str, *argv: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(model, *argv), capture_output=True, text=True, timeout=800, check=False)


def left(folder: Path) -> list[str]:
    return [run.id for run in store.all_runs(folder)]


# ---- with real jobs


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_enet_passes_and_leaves_nothing(tmp_path: Path) -> None:
    done = segctl_drill("enet", "--steps", 10, "--procs", 2, "--set", "train.ema=0.9", "--json")
    assert done.returncode == 0, done.stdout + done.stderr

    found = json.loads(done.stdout)

    rows = {row["name"]: (row["verdict"], row["starts"], row["came_back_from"]) for row in found["disturbances"]}
    assert rows == {"requeue": ("passed", 2, 5), "kill-in-save": ("passed", 2, 3), "lost-node": ("passed", 2, 3)}
    assert (found["passed"], found["processes"], found["kept"], found["why"]) == (True, 2, [], "")
    assert left(tmp_path / "runs") == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_model_that_counts_its_calls_is_caught(forgetful: None, tmp_path: Path) -> None:
    done = segctl_drill("counting", "--steps", 8, "--only", "requeue", "--only", "kill-in-save")

    assert done.returncode == 1, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert [row[:2] for row in rows[1:]] == [[name, "differs"] for name in ("requeue", "kill-in-save")]
    assert "differ from step 5" in done.stdout
    assert "model.head.0.weight" in done.stdout
    assert "state that is not in the state dict" in done.stderr
    # One call for each of 8 steps, and one for each of 4 images at the end.
    assert "model.calls (was 1, is 12)" in done.stderr
    assert "Traceback" not in done.stderr
    assert all(run in done.stderr for run in left(tmp_path / "runs"))
    assert len(left(tmp_path / "runs")) == 4, "two that were disturbed, and two that were not"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("dataset", "sets", "kept"),
    [("shapes", ["loss.name=averaging"], "loss.mean"), ("fading", [], "data set.drawn")],
    ids=["a loss", "a data set"],
)
def test_so_is_what_else_remembers(forgetful: None, dataset: str, sets: list[str], kept: str) -> None:
    found = drill("enet", dataset, *sets, steps=6, only=["kill-in-save"])

    (row,) = found.disturbances
    assert (row.verdict, row.came_back_from, row.first_difference) == ("differs", 2, 3)
    assert found.repeatable is True
    assert [text.split(" (")[0] for text in found.changed] == [kept]
    assert kept in found.why


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_is_never_the_same_twice_is_told_from_it(forgetful: None) -> None:
    found = drill("wandering", steps=6, only=["requeue"])

    assert (found.passed, found.repeatable) == (False, False)
    assert found.disturbances[0].first_difference == 1
    assert "Two undisturbed runs differ as well, so it is not the resuming" in found.why


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ctrl_c_ends_its_jobs(tmp_path: Path) -> None:
    words = command("enet", "--steps", 1_000_000)
    program = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    folder = tmp_path / "runs"
    try:
        deadline = time.monotonic() + 300
        while sum(each.step is not None for each in status(runs_dir=folder)) < 2:  # two train, two wait for their turn
            assert program.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.3)
        jobs = [
            each for each in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(each.info["cmdline"] or [])
        ]
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=120)
        assert (program.returncode, out, "Traceback" in err) == (130, "", False)
        assert left(folder) == []
        assert jobs
        assert not psutil.wait_procs(jobs, timeout=60)[1]
    finally:
        program.kill()
        for each in status(runs_dir=folder):
            if each.state not in FINAL:
                cancel(each.path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_training_that_fails_anyway_is_no_drill(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"does not complete even where it is left alone.*loss was") as raised:
        drill("enet", "shapes", "optimizer.lr=1e30", steps=6, only=["requeue"])

    assert "drill-undisturbed" in raised.value.hint
    assert {each.state in FINAL for each in status(runs_dir=tmp_path / "runs")} == {True}


# ---- what it refuses


@pytest.mark.parametrize(
    ("sets", "options", "said"),
    [
        (["train.log_every=5"], {}, "train.log_every: a drill decides this itself"),
        (["train.epochs=2"], {}, "train.epochs: a drill decides this itself"),
        (["name=mine"], {}, "name: a drill decides this itself"),
        ([], {"steps": 5}, "--steps: 5 steps leave no room"),
        ([], {"only": ["reqeue"]}, "no disturbance 'reqeue'.*Did you mean 'requeue'"),
    ],
)
def test_what_it_decides_itself_is_refused(sets: list[str], options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        drill("enet", "shapes", *sets, **options)


# ---- what it concludes


@pytest.mark.parametrize("steps", range(6, 40))
def test_something_always_befalls_a_run_between_two_checkpoints(steps: int) -> None:
    when = Timetable(steps)

    assert 2 <= when.checkpoint_every < when.hold_after < when.die_in_save < steps
    assert when.hold_after % when.checkpoint_every, "a run that loses its machine has steps to do again"
    assert when.die_in_save % when.checkpoint_every == 0, "there is a save then"


def train(step: int, loss: float, attempt: int = 1, restart: int = 0) -> dict[str, Any]:
    figures = {"loss": loss, "grad_norm": 1.0, "lr": 0.1}
    return {"event": "train", "step": step, "attempt": attempt, "restart": restart, **figures}


def begin(step: int, attempt: int = 1, restart: int = 0) -> dict[str, Any]:
    return {"event": "start", "step": step, "attempt": attempt, "restart": restart}


WHOLE = [
    begin(0),
    train(1, 0.5),
    train(2, 0.4),
    begin(1, restart=1),
    train(2, 0.4, restart=1),
    train(3, 0.3, restart=1),
]


def test_figures_are_compared_step_by_step() -> None:
    one = curve([train(1, 0.5), train(2, 0.1 + 0.2)])

    assert first_difference(one, dict(one)) is None
    assert first_difference(one, curve([train(1, 0.5), train(2, 0.3)])) == 2, "0.1 + 0.2 is not 0.3"
    assert first_difference(one, curve([train(2, 0.1 + 0.2)])) == 1


def test_steps_follow_each_other_in_every_start() -> None:
    assert miscounted(WHOLE) == ""
    assert came_back_from(WHOLE) == [1]
    assert miscounted([*WHOLE, train(3, 0.3, restart=1)]) == "step 3 was recorded after step 3"
    assert miscounted([begin(0), train(1, 0.5), train(3, 0.5)]) == "step 3 was recorded after step 1"
    assert miscounted([train(1, 0.5)]) == "step 1 was recorded after no start"
    assert missing({1: 0, 4: 0}, 5) == "steps 2, 3 and 5 are missing"
    assert missing({1: 0}, 2) == "step 2 is missing"
    assert missing({1: 0, 2: 0}, 2) == ""


def test_what_a_difference_means_in_words() -> None:
    assert "not the resuming" in meaning(repeatable=False, changed=(), on_gpu=False)
    assert "--gpus 0" in meaning(repeatable=False, changed=(), on_gpu=True)
    assert "model.calls (was 1, is 2)" in meaning(repeatable=True, changed=["model.calls (was 1, is 2)"], on_gpu=False)
    assert "Seen to change" not in meaning(repeatable=True, changed=(), on_gpu=False)
    assert shortened(list("abcdefgh")) == "a, b, c, d, e and 3 more"
    assert shortened(["a", "b"]) == "a and b"
