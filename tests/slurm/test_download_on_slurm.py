"""`segctl download --on PROFILE` on a real cluster: a job of one process, which goes on after a requeue."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster
from trained import Training, segctl

sys.path.append(str(Path(__file__).parents[1] / "download"))
from planted import facts, noise, plant, zipped
from server import Server, serving

ZIP = zipped({"toy/photo.jpg": noise(1_500_000)})


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    path = Path(os.environ["XDG_CONFIG_HOME"], "segctl", "profiles.yaml")
    path.parent.mkdir(parents=True)
    path.write_text("profiles:\n  datanode: {on: slurm, gpus: 2, nodes: 2, time: 10, slurm: {partition: main}}\n")
    with serving() as found:
        archive = facts(found.serve("/toy.zip", ZIP, pace=0.3), ZIP)
        monkeypatch.setenv("PYTHONPATH", plant(tmp_path / "plugins", {"toy": [archive]}))
        yield found


def test_a_job_on_a_data_node_goes_on_after_a_requeue(cluster: Cluster, server: Server, tmp_path: Path) -> None:
    data = tmp_path / "data"
    said = segctl("download", "toy", "--data-root", data, "--on", "datanode", "--detach", "--json")
    run = Training(Path(json.loads(said)["path"]))
    job = cluster.show(run.job)
    assert (job["Partition"], job["NumTasks"], job["TimeLimit"]) == ("main", "1", "00:10:00")
    run.wait_until(lambda: server.sent("/toy.zip") > 300_000)
    run.wait_until(lambda: run.status()["phase"] == "downloading")

    segctl("requeue", run.path)
    run.wait_until(lambda: run.restart() >= 1)
    server.files["/toy.zip"].pace = 0.0

    assert run.wait_for_end()["state"] == "COMPLETED"
    assert (data / "toy/toy/photo.jpg").read_bytes() == noise(1_500_000)
    first, second = server.of("/toy.zip")
    assert first.status == 200
    assert (second.status, second.sent) == (206, len(ZIP) - second.start)
    assert second.start > 250_000
    assert "toy is complete in" in segctl("logs", run.path)
