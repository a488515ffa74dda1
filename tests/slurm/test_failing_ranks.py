"""One rank of four goes wrong: the job ends within a minute, and says which rank, where and why."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from cluster import Cluster
from trained import Training


@pytest.mark.parametrize(
    ("trouble", "flags", "why", "seconds"),
    [
        pytest.param("raise", [], r"RuntimeError: boom \(rank 2 on n\d, fragile_plugin\.py:\d+", 60, id="raises"),
        pytest.param("leave", [], r"rank 2 on n\d ended with exit code 3", 60, id="exits"),
        pytest.param(
            *("exit", [], r"rank 2 on n\d ended without finishing its work, though with exit code 0", 60), id="leaves"
        ),
        pytest.param("segfault", [], r"rank 2 on n\d was killed by SIGSEGV", 60, id="segfaults"),
        pytest.param("kill", [], r"rank 2 on n\d was killed by SIGKILL", 60, id="is killed"),
        pytest.param("memory", ["--slurm", "mem=3G"], r"rank 2 on n\d .*memory", 60, id="out of memory"),
        pytest.param(
            *(
                "sleep",
                ["--set", "launch.hang_timeout=10"],
                r"no progress.*rank 2 on n\d|rank 2 on n\d.*no progress",
                60,
            ),
            id="hangs",
        ),
    ],
)
def test_it_ends_soon_and_says_why(
    cluster: Cluster,
    fragile_path: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
    flags: list[str],
    why: str,
    seconds: float,
) -> None:
    if trouble == "memory" and not cluster.limits_memory:
        pytest.skip("this machine has no control groups to limit memory with")
    moment = tmp_path / "moment"
    monkeypatch.setenv("PYTHONPATH", fragile_path, prepend=os.pathsep)
    monkeypatch.setenv("TEST_MOMENT", str(moment))
    fragile = ("--model", "fragile", "--model.trouble", trouble, "--model.rank", 2, "--model.step", 5)
    training = Training.submit("--on", "slurm", "--nodes", 2, "--procs", 2, *fragile, *flags)
    training.wait_until(moment.exists, 180, "the trouble to begin")
    status = training.wait_for_end()
    took = training.json("supervisor.json")["ended"] - float(moment.read_text())
    assert status["state"] == "FAILED", training.story()
    assert re.search(why, status["why"]), f"{status['why']}\n{training.story()}"
    assert took < seconds, f"{took} s"
    assert training.restart() == 0, "it would only happen again"
    cluster.wait_for(lambda: training.job not in cluster.queue(), 30, "SLURM to let go of the job")


def test_a_gpu_that_fails_is_no_fault_of_the_training(
    cluster: Cluster, fragile_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", fragile_path, prepend=os.pathsep)
    fragile = ("--model", "fragile", "--model.trouble", "hardware", "--model.rank", 1, "--model.step", 5)
    training = Training.submit("--on", "slurm", "--nodes", 2, "--procs", 1, *fragile)
    status = training.wait_for_end()
    assert status["state"] == "COMPLETED", training.story()
    (first, _) = training.json("supervisor.json")["history"]
    assert first["reason"] == "after the machine under rank 1 failed"


def test_a_thread_that_never_ends_does_not_keep_the_job(
    cluster: Cluster, fragile_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", fragile_path, prepend=os.pathsep)
    fragile = ("--model", "fragile", "--model.trouble", "linger", "--model.rank", 0, "--model.step", 5)
    training = Training.submit("--on", "slurm", "--nodes", 1, "--procs", 1, "--steps", 10, *fragile)
    assert training.wait_for_end()["state"] == "COMPLETED", training.story()
    cluster.wait_for(lambda: training.job not in cluster.queue(), 30, "SLURM to let go of the job")
