"""Sweeps as the user meets them: what is shown, what is refused before anything is submitted, and how they end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import Said

import segctl as api
from segctl import bridge
from segctl.config.schema import Config

TINY = ("train", "--model", "enet", "--dataset", "shapes", "--gpus", "0", "--batch-size", "4", "--steps", "6")


def refused(said: Said, *words: str) -> None:
    assert said.code == 1, said.err
    for word in words:
        assert word in said.err
    assert not Path("runs").exists()


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_dry_run_shows_the_points(segctl: Callable[..., Said]) -> None:
    said = segctl(*TINY, "--set", "optimizer.lr=0.01,0.005", "--set", "augment.crop=[48, 48],null", "--dry-run")
    assert said.code == 0, said.err
    table = [line.split(maxsplit=2) for line in said.out.splitlines() if not line.startswith("#")]
    assert table[1:] == [
        ["POINT", "LR", "CROP"],
        ["1", "0.01", "[48, 48]"],
        ["2", "0.01", "null"],
        ["3", "0.005", "[48, 48]"],
        ["4", "0.005", "null"],
    ]
    assert not Path("runs").exists()


def test_points_may_come_from_a_file(segctl: Callable[..., Said]) -> None:
    Path("points.yaml").write_text("- {seed: 1, optimizer.lr: 0.01}\n- {seed: 2, optimizer.lr: 0.02}\n")
    said = segctl(*TINY, "--sweep", "points.yaml", "--dry-run", "--json")
    assert json.loads(said.out)["points"] == [{"seed": 1, "optimizer.lr": 0.01}, {"seed": 2, "optimizer.lr": 0.02}]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--set", "optimizer.lr=0.1,-1"], ["Training 2 of 2 (optimizer.lr=-1): optimizer.lr"]),
        (["--set", "optimiser.lr=0.1,1"], ["Training 1 of 2", "there is no such setting"]),
        (["--set", "train.batch_size=1,4", "--procs", "2"], ["Training 1 of 2 (train.batch_size=1): ", "2 processes"]),
        (["--set", "model=enet,{name: enet}"], ["Training 2 of 2", "the same training as number 1"]),
        (["--set", "augment.crop=240,320"], ["augment.crop takes a list", "[240,320]"]),
        (["--set", "seed=1,2", "--max-running", "0"], ["--max-running: 0 is not a number of runs"]),
        (["--set", "seed=1,2", "--then", "eval"], ["a sweep is not followed by evaluations"]),
        (["--max-running", "2"], ["this is one training, not a sweep"]),
        (["--sweep", "none.yaml"], ["There is no file none.yaml"]),
        (["--set", "dataset.nothing=1,2"], ["Training 1 of 2 (dataset.nothing=1): ", "nothing"]),
    ],
)
def test_what_is_wrong_with_one_is_told_before_any_is_submitted(
    segctl: Callable[..., Said], flags: list[str], words: list[str]
) -> None:
    refused(segctl(*TINY, *flags), *words)


def test_trainings_that_differ_in_what_is_checked_are_each_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[Config] = []
    monkeypatch.setattr(bridge, "preflight", lambda config, processes: checked.append(config) or ())
    told: list[str] = []
    api.sweep(
        flags={"model": "enet", "dataset": "shapes", "launch.gpus": 0},
        sets=["seed=1,2,3", "optimizer.lr=0.1,0.2", "schedule.power=1,2", "train.batch_size=2,4"],
        dry_run=True,
        on_progress=told.append,
    )
    assert [config.train.batch_size for config in checked] == [2, 4]
    assert told[-1] == "Checking configuration, data and model, 2 of 2"


@pytest.mark.slow
def test_a_sweep_is_followed_to_its_end(program: Callable[..., Said], nothing_left_running: None) -> None:
    small = ("--set", "augment.crop=48", "--set", "dataset.eval_samples=4", "--set", "train.workers=0")
    said = program(*TINY, *small, "--set", "optimizer.lr=1e30,0.01", "--name", "lrs")
    assert said.code == 1, "one of them did not complete"
    rows = [line.split() for line in said.out.splitlines()]
    assert rows[1] == ["#", "BEST", "LR", "STATE", "EPOCH", "MIOU", "RUN"]
    assert (rows[2][0], rows[2][2:4]) == ("1", ["0.01", "COMPLETED"])
    assert rows[3][:2] == ["1e+30", "FAILED"]
    assert " at step " in said.out, "the reason"
    assert "1 of 2 runs did not complete" in said.err

    statuses = json.loads(program("status", "lrs", "--json").out)
    assert [(each["state"], each["point"]) for each in statuses] == [
        ("COMPLETED", {"optimizer.lr": 0.01}),
        ("FAILED", {"optimizer.lr": 1e30}),
    ]
    assert statuses[0]["sweep"] == statuses[1]["sweep"] == rows[0][0].rstrip(":")
    assert [each["name"] for each in statuses] == ["lrs-lr0.01", "lrs-lr1e30"]
    everything = program("status").out
    assert all(each["id"] in everything for each in statuses)
    assert "have ended" in program("cancel", "lrs").err
