"""Sweeps on a real cluster: one job array, whose elements are runs like any other."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster
from trained import SEGCTL, Training, segctl, statuses
from waiting import until

SMALL = ("--model", "enet", "--dataset", "shapes", "--batch-size", 4, "--on", "slurm", "--procs", 1)
SETS = ("augment.crop=48", "train.eval_every=0", "train.log_every=1", "dataset.eval_samples=8", "train.workers=0")


TRAIN = ("train", *SMALL, *(word for each in SETS for word in ("--set", each)))


def train(*argv: object, check: bool = True, seconds: float = 120) -> str:
    return segctl(*TRAIN, *argv, check=check, seconds=seconds)


def refused(*argv: object) -> str:
    """What a command of ours says that cannot be done."""
    done = subprocess.run([SEGCTL, *map(str, argv)], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr


class Sweep:
    """A sweep that was submitted, with its runs in the order of its points."""

    def __init__(self, *argv: object) -> None:
        document = json.loads(train(*argv, "--detach", "--json"))
        self.id, self.path = document["id"], Path(document["path"])
        table = json.loads((self.path / "sweep.json").read_text())["elements"]
        self.points = [one["point"] for one in table]
        self.runs = [Training(self.path.parent / one["run"]) for one in table]

    def status(self) -> list[dict[str, Any]]:
        return statuses(self.id)

    def states(self) -> dict[str, int]:
        states = [each["state"] for each in self.status()]
        return {state: states.count(state) for state in states}

    def wait_for_end(self) -> list[dict[str, Any]]:
        for run in self.runs:
            run.wait_for_end()
        return self.status()


class Calls:
    """What was called of a command of SLURM's: a line of arguments for each call.

    A script stands before it; REAL in the script's text is the command itself.
    """

    def __init__(self, folder: Path, name: str, script: str = 'exec REAL "$@"') -> None:
        self._log = folder / f"{name}.calls"
        file = folder / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f'#!/bin/sh\necho "$@" >> {self._log}\n{script}\n'.replace("REAL", shutil.which(name) or ""))
        file.chmod(0o755)

    def all(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []

    def submissions(self) -> list[str]:
        return [call for call in self.all() if "--test-only" not in call]


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Calls]:
    """Makes the commands of this test note their calls."""
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    return lambda *arguments: Calls(tmp_path, *arguments)


def at_once(runs: Sequence[Training]) -> int:
    """How many ran at the same time, at most, by what each recorded of itself."""
    records = [run.json("supervisor.json") for run in runs]
    moments = [(record["started"], 1) for record in records] + [(record["ended"], -1) for record in records]
    running = most = 0
    for _, change in sorted(moments):
        running += change
        most = max(most, running)
    return most


def test_a_grid_is_one_array_and_its_runs_are_ranked(cluster: Cluster, calls: Callable[..., Calls]) -> None:
    sbatch = calls("sbatch")
    said = train(
        *("--steps", 4, "--set", "optimizer.lr=0.01,0.005", "--set", "seed=1,2", "--max-running", 2, "--name", "grid"),
        seconds=480,  # it is followed to its end
    )
    assert len(sbatch.submissions()) == 1
    statuses = json.loads(segctl("status", "grid", "--json"))
    assert [each["state"] for each in statuses] == ["COMPLETED"] * 4
    points = sorted((each["point"]["optimizer.lr"], each["point"]["seed"]) for each in statuses)
    assert points == [(0.005, 1), (0.005, 2), (0.01, 1), (0.01, 2)]
    best = [each["best_miou"] for each in statuses]
    assert best == sorted(best, reverse=True)
    runs = [Training(Path(each["path"])) for each in statuses]
    assert at_once(runs) == 2
    assert sorted(run.job for run in runs) == [f"{runs[0].job.partition('_')[0]}_{index}" for index in range(4)]
    for each, run in zip(statuses, runs, strict=True):
        config = (run.path / "config.yaml").read_text()
        assert f"seed: {each['point']['seed']}\n" in config
        assert f"  lr: {each['point']['optimizer.lr']}\n" in config
        assert f"{each['id']} as job {run.job}" in (run.path / "logs" / "attempt1-leader.log").read_text()
    rows = said.splitlines()
    assert rows[0].endswith("-grid-" + rows[0].split(":")[0][-4:] + ": 4 runs: 4 COMPLETED")
    assert rows[1].split() == ["#", "BEST", "LR", "SEED", "STATE", "EPOCH", "MIOU", "RUN"]
    assert [row.split()[-1] for row in rows[2:]] == [each["id"][-4:] for each in statuses]


def test_an_element_that_failed_is_resumed_alone_and_another_is_requeued(
    cluster: Cluster, fragile_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", fragile_path, prepend=os.pathsep)
    monkeypatch.setenv("TEST_PACE", "0.4")  # 48 seconds for all steps: the other one must not have ended by then
    paced = ("--dataset", "paced_shapes", "--steps", 30)
    sweep = Sweep(*paced, "--set", "seed=1,2", "--set", "train.checkpoint_every=5")
    failing, other = sweep.runs
    failing.wait_for_step(6)
    nodes = [cluster.node(name) for name in ("n1", "n2", "n3")]
    ranks = [each for node in nodes for each in node.processes("_submit", SLURM_ARRAY_TASK_ID=0, SLURM_PROCID=0)]
    for rank in ranks:
        rank.send_signal(signal.SIGKILL)
    failing.wait_until(lambda: failing.status()["state"] == "FAILED")
    segctl("requeue", other.path)
    assert other.wait_for_end()["state"] == "COMPLETED"
    assert other.restart() == 1
    last = sweep.status()[-1]
    assert (last["state"], last["point"]) == ("FAILED", {"seed": 1})
    assert last["why"] in segctl("status", sweep.id)

    monkeypatch.setenv("TEST_PACE", "0")
    segctl("resume", failing.path, "--detach")
    assert failing.wait_for_end()["state"] == "COMPLETED"
    assert "_" not in failing.job, "a job of its own"
    assert sorted(failing.losses()) == list(range(1, 31))
    assert sweep.states() == {"COMPLETED": 2}


def test_cancelling_saves_what_runs_and_takes_the_rest_from_the_queue_at_once(
    cluster: Cluster, calls: Callable[..., Calls]
) -> None:
    sweep = Sweep("--steps", 100_000, "--set", "seed=1,2,3,4", "--max-running", 1)
    first = sweep.runs[0]
    first.wait_for_step(3)
    scancel = calls("scancel")
    segctl("cancel", sweep.id)
    assert sweep.states() == {"CANCELLED": 4}
    array = first.job.removesuffix("_0")
    assert scancel.all()[:2] == [f"{array}_1 {array}_2 {array}_3", f"--batch --signal=USR2 {array}_0"]
    assert cluster.queue() == {}
    assert list((first.path / "checkpoints").glob("step-*.pt"))
    assert not any((run.path / "supervisor.json").exists() for run in sweep.runs[1:])
    assert "have ended" in refused("cancel", sweep.id)


def test_two_hundred_are_one_sbatch(cluster: Cluster, calls: Callable[..., Calls]) -> None:
    sbatch, scancel = calls("sbatch"), calls("scancel")
    seeds = ",".join(map(str, range(200)))
    sweep = Sweep("--steps", 2, "--set", f"seed={seeds}", "--slurm", "hold")
    assert len(sbatch.submissions()) == 1
    assert len(cluster.queue()) == 200
    assert sweep.states() == {"PENDING": 200}
    assert [run.json("run.json")["point"] for run in sweep.runs] == [{"seed": seed} for seed in range(200)]
    segctl("cancel", sweep.id)
    assert len(scancel.all()) == 1
    assert cluster.queue() == {}
    assert sweep.states() == {"CANCELLED": 200}


def test_what_is_more_than_an_array_may_hold_is_several(cluster: Cluster, calls: Callable[..., Calls]) -> None:
    cluster.configure(MaxArraySize=2)
    sbatch = calls("sbatch")
    shown = train("--set", "seed=7,8,9", "--dry-run").splitlines()
    assert [line for line in shown if "--array" in line] == ["#SBATCH --array=0-1", "#SBATCH --array=0-0"]
    sweep = Sweep("--steps", 2, "--set", "seed=7,8,9", "--max-running", 2)
    assert len(sbatch.submissions()) == 2
    assert [each["state"] for each in sweep.wait_for_end()] == ["COMPLETED"] * 3
    assert at_once(sweep.runs) == 2, "over all arrays"
    first, second, third = (run.job.split("_") for run in sweep.runs)
    assert first[0] == second[0] != third[0]
    assert (first[1], second[1], third[1]) == ("0", "1", "0")
    for run, seed in zip(sweep.runs, (7, 8, 9), strict=True):
        assert f"seed: {seed}\n" in (run.path / "config.yaml").read_text()
        assert f"{run.path.name} as job {run.job}" in (run.path / "logs" / "attempt1-leader.log").read_text()


def test_nothing_is_left_of_a_sweep_that_slurm_does_not_take_whole(
    cluster: Cluster, calls: Callable[..., Calls], tmp_path: Path
) -> None:
    cluster.configure(MaxArraySize=2)
    calls("sbatch", f'test $(grep -c parsable {tmp_path}/sbatch.calls) -lt 2 && exec REAL "$@"; exit 1')
    said = refused(*TRAIN, "--steps", 2, "--set", "seed=7,8,9", "--slurm", "hold")
    assert "SLURM did not take the job" in said
    assert cluster.queue() == {}
    assert list((tmp_path / "runs").iterdir()) == []


def test_elements_are_found_when_the_submitting_command_is_cut_off(
    cluster: Cluster, calls: Callable[..., Calls], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill = "cat > script; kill -9 $PPID; exec REAL --parsable < script"
    calls("sbatch", f'case "$*" in --parsable) {kill};; *) exec REAL "$@";; esac')
    monkeypatch.chdir(tmp_path)
    train("--steps", 2, "--set", "seed=7,8", "--slurm", "hold", "--name", "cut", "--detach", check=False)
    (sweep,) = (path.parent for path in (tmp_path / "runs").glob("*/sweep.json"))
    until(lambda: len(cluster.queue()) == 2, 60, "the array")
    statuses = json.loads(segctl("status", "cut", "--json"))
    assert [(each["state"], each["queue_reason"]) for each in statuses] == [("PENDING", "JobHeldUser")] * 2
    segctl("cancel", sweep.name)
    assert cluster.queue() == {}
