"""Which file system a folder is on, and what counts as a job having reached the folder of the runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from segctl.launch.slurm.shared_folder import file_system_of, is_reached, remember, unproven

MOUNTS = r"""
22 28 0:21 / /proc rw,nosuid shared:12 - proc proc rw
28 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 28 0:26 / /dev/shm rw,nosuid shared:4 - tmpfs tmpfs rw
31 28 0:40 / /scratch rw shared:5 - lustre 10.0.0.1@tcp:/scratch rw
32 31 0:41 / /scratch/my\040room rw - tmpfs none rw
33 28 0:42 / /home rw - autofs systemd-1 rw,fd=50
34 33 0:43 / /home rw shared:9 master:1 propagate_from:2 - nfs4 server:/home rw
35 28 0:44
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/srv/runs", "ext4"),
        ("/proc", "proc"),
        ("/proc/x/runs", "proc"),
        ("/procs", "ext4"),
        ("/dev/shm/runs", "tmpfs"),
        ("/dev/shmem", "ext4"),
        ("/scratch/ada", "lustre"),
        ("/scratch/my room/runs", "tmpfs"),
        ("/home/ada/runs", "nfs4"),
    ],
)
def test_the_innermost_and_latest_mount_counts(path: str, kind: str) -> None:
    assert file_system_of(path, MOUNTS) == kind


def test_without_mounts_nothing_is_known() -> None:
    assert file_system_of("/home", "") == ""


@pytest.fixture
def on_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = tmp_path / "slurm.conf"
    configuration.write_text("ClusterName=Lab\n")
    monkeypatch.setenv("SLURM_CONF", str(configuration))


def put(runs: Path, number: int, supervisor: dict[str, Any], **attempt: Any) -> None:
    run = runs / f"20260101-{number:06d}-enet-shapes-abcd"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    submission = {"backend": "slurm", "attempts": [{"number": 1, "submitted": 1.0, "cluster": "lab", **attempt}]}
    (run / "submission.json").write_text(json.dumps(submission))
    (run / "supervisor.json").write_text(json.dumps({"attempt": 1, **supervisor}))


@pytest.mark.usefixtures("on_lab")
def test_a_run_whose_job_has_written_is_evidence(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert not is_reached(runs)
    put(runs, 1, {"state": "COMPLETED"})  # of this machine
    put(runs, 2, {"job_id": "7", "state": "FAILED"}, cluster="elsewhere")
    assert not is_reached(runs)
    (told,) = unproven(runs, "gpus")
    assert told.endswith(f"No job has yet been seen to reach {runs}; 'segctl profiles check gpus' finds out before "
                         "anything waits in the queue.")  # fmt: skip

    put(runs, 3, {"job_id": "8", "state": "RUNNING"})

    assert is_reached(runs)
    assert unproven(runs, "gpus") == ()
    assert not is_reached(tmp_path / "other")


def test_a_check_is_evidence_for_its_cluster_alone(
    tmp_path: Path, on_lab: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(tmp_path / "runs")
    assert is_reached(tmp_path / "runs")
    assert not is_reached(tmp_path)

    other = tmp_path / "other.conf"
    other.write_text("ClusterName=other\n")
    monkeypatch.setenv("SLURM_CONF", str(other))

    assert not is_reached(tmp_path / "runs")


def test_a_damaged_note_is_none(tmp_path: Path, on_lab: None) -> None:
    remember(tmp_path / "runs")
    (note,) = (tmp_path / "cache" / "segctl").glob("slurm-*-folders.json")
    note.write_text('{"reached": {"/x": "y"')
    assert not is_reached(tmp_path / "runs")
    remember(tmp_path / "runs")
    assert is_reached(tmp_path / "runs")
