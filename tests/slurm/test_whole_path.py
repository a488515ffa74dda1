"""A training on the cluster from `segctl train` to its evaluation, as its user goes through it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cluster import Cluster
from trained import SEGCTL, SMALL, Training, same_training, segctl

from segctl.config.schema import Launch
from segctl.launch.backends import backend
from segctl.launch.machine import read as this_machine
from segctl.runs import store


def _completed(training: Training) -> Training:
    """One after the other: eight processes on few cores take more than twice as long as four."""
    assert training.wait_for_end()["state"] == "COMPLETED", training.story()
    return training


def test_two_nodes_of_two_processes_train_as_four_processes_of_one_machine(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    there, here = (
        _completed(Training.submit(*where, "--steps", 15))
        for where in (("--on", "slurm", "--nodes", 2, "--procs", 2), ("--procs", 4))
    )
    same_training(there, here, steps=15)
    nodes = there.json("supervisor.json")["nodes"]
    assert len(cluster.run("scontrol", "show", "hostnames", nodes).split()) == 2


def test_it_is_requeued_cancelled_and_resumed_and_then_evaluated(
    cluster: Cluster, fragile_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", fragile_path, prepend=os.pathsep)
    monkeypatch.setenv("TEST_PACE", "0.2")  # 32 seconds for all steps: it must not end before a command reaches it
    document = json.loads(
        segctl(
            *("train", "--model", "enet", "--dataset", "paced_shapes", "--steps", 40, "--batch-size", 8),
            *("--then", "eval", "--set", "train.checkpoint_every=5"),
            *("--set", "augment.crop=48", "--set", "dataset.eval_samples=8"),
            *("--set", "train.workers=0", "--on", "slurm", "--nodes", 2, "--procs", 1, "--detach", "--json"),
        )
    )
    training = Training(Path(document["path"]))
    (evaluation,) = (Training(path) for path in training.path.parent.iterdir() if path != training.path)
    assert cluster.show(evaluation.job)["Dependency"].startswith("afterok:")

    training.wait_for_step(6)
    segctl("requeue", training.path)
    training.wait_until(lambda: training.restart() >= 1, 120, "the next start")
    training.wait_for_step(10, restart=1)
    assert evaluation.status()["state"] == "PENDING", "a requeue of the first does not start the second"

    segctl("cancel", training.path)
    status = training.status()
    assert status["state"] == "CANCELLED", status["why"]
    assert "segctl resume" in status["hint"]
    cluster.wait_for(lambda: cluster.state(evaluation.job) in ("", "CANCELLED"), 60, "the second job to be given up")
    assert evaluation.wait_for_end(60)["state"] == "CANCELLED"

    monkeypatch.setenv("TEST_PACE", "0")
    segctl("resume", training.path, "--detach")
    assert training.wait_for_end()["state"] == "COMPLETED", training.story()
    segctl("resume", evaluation.path, "--detach")
    assert evaluation.wait_for_end()["state"] == "COMPLETED", evaluation.story()
    assert evaluation.json("eval.json")["miou"] == pytest.approx(training.status()["miou"], abs=1e-12)


def test_a_job_submits_another(cluster: Cluster, tmp_path: Path) -> None:
    """What the outer job's variables say of nodes, tasks and memory is not the inner one's."""
    runs, short = tmp_path / "inner", ("--steps", "6", "--on", "slurm", "--nodes", "2", "--procs", "1", "--detach")
    words = [SEGCTL, "train", *SMALL, *short, "--runs-dir", str(runs)]
    outer = cluster.submit(shlex.join(words), "--nodes=1", "--ntasks=3", "--mem=2G", "--job-name=outer")
    cluster.wait_for(lambda: list(runs.glob("2*/submission.json")), 90, cluster.output(outer))
    (path,) = runs.glob("2*")
    training = Training(path)
    assert training.wait_for_end()["state"] == "COMPLETED", f"{cluster.output(outer)}\n{training.story()}"
    assert training.job != outer


def test_cancelling_while_slurmctld_is_away_says_what_becomes_of_it(cluster: Cluster) -> None:
    training = Training.submit("--on", "slurm", "--nodes", 1, "--procs", 1, "--steps", 100_000)
    training.wait_for_step(5)
    cluster.stop_service("slurmctld", signal.SIGKILL)
    try:
        done = subprocess.run([SEGCTL, "cancel", training.path], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "SLURM does not answer. The request stands in the run's folder all the same" in done.stderr
    finally:
        cluster.start_service("slurmctld")
    assert training.wait_for_end()["state"] == "CANCELLED", training.story()


def test_a_controller_that_is_silent_when_ranks_are_to_start_is_waited_for(cluster: Cluster, tmp_path: Path) -> None:
    here, go = tmp_path / "here", tmp_path / "go"
    setup = json.dumps([f"touch {here}", f"until test -e {go}; do sleep 0.1; done"])
    training = Training.submit(
        *("--on", "slurm", "--nodes", 1, "--procs", 1, "--steps", 6, "--set", f"launch.slurm.setup={setup}")
    )
    training.wait_until(here.exists)
    cluster.stop_service("slurmctld")
    try:
        go.touch()
        leader = training.path / "logs" / "attempt1-leader.log"
        training.wait_until(lambda: "srun has started nothing" in leader.read_text(), 200)
    finally:
        cluster.start_service("slurmctld")
    assert training.wait_for_end()["state"] == "COMPLETED", training.story()
    assert training.restart() == 0


def test_submitting_costs_little_more_than_sbatch(cluster: Cluster) -> None:
    plan = backend("slurm").plan(Launch(on="slurm", slurm={"options": {"hold": True}}), this_machine())  # type: ignore[arg-type]
    ours, bare = [], []
    for _ in range(15):
        run = store.create("", {"kind": "train", "model": "enet", "dataset": "shapes"}, store.runs_dir())
        began = time.perf_counter()
        submitted = backend("slurm").submit(run, plan)
        ours.append(time.perf_counter() - began)
        (script,) = run.submitit.glob("*.sh")
        began = time.perf_counter()
        cluster.run("sbatch", "--parsable", script)
        bare.append(time.perf_counter() - began)
        assert submitted.job_id
    assert min(ours) <= 1.5 * min(bare) + 0.3, (ours, bare)


def test_fifty_commands_at_once_damage_nothing(cluster: Cluster) -> None:
    tiny = ("--model", "enet", "--dataset", "shapes", "--steps", 4, "--batch-size", 4, "--set", "augment.crop=48")
    sets = ("--set", "dataset.eval_samples=4", "--set", "train.workers=0")
    held = ("--on", "slurm", "--slurm", "hold", "--detach", "--json")
    first, second = (Training(Path(json.loads(segctl("train", *tiny, *sets, *held))["path"])) for _ in range(2))
    segctl("cancel", first.path)

    def call(words: tuple[object, ...]) -> subprocess.CompletedProcess[str]:
        argv = [SEGCTL, *map(str, words)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=500, check=False)

    looks = [("status",), ("status", "--json"), ("why", first.path), ("status", second.path, "--json")]
    commands: list[tuple[object, ...]] = [("resume", first.path, "--detach")] * 3
    commands += [("cancel", second.path)] * 7
    commands += looks * 10
    with ThreadPoolExecutor(len(commands)) as pool:
        done = list(pool.map(call, commands))
    assert [one.stderr for one in done if one.returncode not in (0, 1) or "Traceback" in one.stderr] == []
    assert [one.returncode for one in done[10:]] == [0] * 40, "who only looks is never refused"
    assert sum(one.returncode == 0 for one in done[:3]) == 1, [one.stderr for one in done[:3]]
    assert [attempt["number"] for attempt in first.json("submission.json")["attempts"]] == [1, 2]
    assert second.status()["state"] == "CANCELLED"
    runs = first.path.parent
    for file in runs.glob("*/*.json"):
        json.loads(file.read_text())
    assert list(runs.glob("**/.tmp-*")) == []
    names = cluster.run("squeue", "--noheader", "--format=%j").split()
    assert names == [f"segctl-{first.path.name}-attempt2"]
