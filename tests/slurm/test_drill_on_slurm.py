"""`segctl drill` on a cluster: the signal, the kill and the requeue are SLURM's own, over two nodes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster import Cluster

SMALL = [
    *("dataset.samples=12", "dataset.eval_samples=4", "augment.crop=32"),
    *("train.batch_size=4", "train.workers=1", "train.ema=0.9"),
]


@pytest.mark.timeout(900)
def test_enet_passes_on_two_nodes(
    cluster: Cluster, segctl: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    words = ["drill", "--model", "enet", "--dataset", "shapes", "--on", "slurm", "--nodes", 2, "--procs", 1]
    words += [word for each in SMALL for word in ("--set", each)]

    done = segctl(*words, "--steps", 8, "--json", seconds=800, check=True)

    found = json.loads(done.stdout)
    rows = {row["name"]: (row["verdict"], row["starts"], row["came_back_from"]) for row in found["disturbances"]}
    assert (found["backend"], found["processes"], found["passed"]) == ("slurm", 2, True)
    assert rows["requeue"] == ("passed", 2, 4)
    assert rows["kill-in-save"] == ("passed", 2, 2)
    assert rows["lost-node"][:2] == ("passed", 2)
    assert "scontrol requeue" in found["disturbances"][2]["what"]
    assert "came back by itself" in found["disturbances"][2]["what"]
    assert list((tmp_path / "runs").glob("2*")) == []
    cluster.wait_for(lambda: not cluster.queue(), 60, "SLURM to let go of the jobs")
