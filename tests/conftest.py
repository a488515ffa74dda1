"""Shared fixtures. Tests run against real parts; what they may not touch is the user's own runs, configuration and queue."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests share few cores; tiny models gain nothing from more threads


@pytest.fixture(autouse=True)
def isolated_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has its own runs folder and its own local queue, and none inherits a job's or a user's settings."""
    for name in list(os.environ):
        if name.startswith(("SEGCTL_", "SLURM_", "SUBMITIT_")) and name != "SEGCTL_TEST_DATA":
            monkeypatch.delenv(name)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SEGCTL_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SEGCTL_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real photographs and masks that are not ours to distribute; see its MANIFEST.md."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SEGCTL_TEST_DATA", beside))
    if not (folder / "MANIFEST.md").is_file():
        if os.environ.get("CI"):
            pytest.fail(f"SEGCTL_TEST_DATA: {folder} is not the real test data, which CI must have")
        pytest.skip(f"no real test data at {folder}; set SEGCTL_TEST_DATA")
    return folder
