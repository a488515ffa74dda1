"""A job of a frozen working copy runs that code on every node and after every requeue, its leader too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cluster import Cluster
from installed import install
from trained import Training

PLUGIN = """
import logging, os, time
from segctl_datasets.shapes import Shapes
import helper

class Painted(Shapes):
    def __init__(self, root, split, *, eval_samples: int = 8):
        logging.getLogger(__name__).warning("%s, %s in %s", "old picture", helper.WORD, __file__)
        super().__init__(root, split, samples=2000, eval_samples=eval_samples)

    def __getitem__(self, index):
        time.sleep(float(os.environ.get("TEST_PACE", 0)))
        return super().__getitem__(index)
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in PYTHONPATH with a data set plugin and a module that it imports."""
    files = {"painted.py": PLUGIN, "helper.py": "WORD = 'old helper'\n"}
    folder = install(tmp_path / "plugin", "painted", files, datasets={"painted": "painted:Painted"})
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    return folder


def test_edits_in_the_queue_and_a_requeue_change_nothing(
    cluster: Cluster, plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_PACE", "0.1")  # ten seconds for all steps: it must not end before it is requeued
    others = cluster.submit("sleep 600", "--nodes=3", "--exclusive")
    cluster.wait_for_state(others, "RUNNING")
    training = Training.submit(
        "--on", "slurm", "--nodes", 2, "--procs", 1, "--dataset", "painted", "--steps", 25, "--snapshot"
    )
    (plugin / "painted.py").write_text("not Python")
    (plugin / "helper.py").write_text("WORD = 'new helper'\n")
    cluster.run("scancel", others)

    training.wait_for_step(7, seconds=240)
    cluster.run("scontrol", "requeue", training.job)
    status = training.wait_for_end()

    assert (status["state"], training.restart()) == ("COMPLETED", 1), training.story()
    for rank in (0, 1):
        log = (training.path / f"logs/attempt1-rank{rank}.log").read_text()
        starts = [line for line in log.splitlines() if "old picture, old helper in " in line]
        assert len(starts) == 4, "two splits in each of two starts"
        assert all(line.endswith(f" in {training.path}/code/plugin/painted.py") for line in starts)
    modules = training.json("run.json")["snapshot"]["modules"]
    if "segctl" in modules:  # it is itself a working copy, not installed
        leader = (training.path / "logs/attempt1-leader.log").read_text()
        assert leader.count(f"segctl in {training.path}/code/") == 2
