"""Real jobs without torch: a stand-in for segctl_jobs runs what the test wrote into the run's directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from launched import Jobs

STAND_IN = """
import json, os, sys, time, traceback
from pathlib import Path

def run(run_dir, stop):
    rank = int(os.environ["RANK"])
    names = {"run_dir": run_dir, "stop": stop, "rank": rank, "attempt": int(os.environ["SEGCTL_ATTEMPT"])}
    try:
        exec(compile((run_dir / "job.py").read_text(), "job.py", "exec"), names)
    except Exception as error:
        content = {"attempt": names["attempt"], "restart": int(os.environ["SEGCTL_RESTART"]), "rank": rank,
                   "type": type(error).__name__, "message": str(error), "traceback": traceback.format_exc(),
                   "time": time.time(), "user_error": False}
        (run_dir / "errors" / f"rank{rank}.json").write_text(json.dumps(content))
        sys.exit(1)
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package segctl_jobs that goes before the real one in every process that is started from here."""
    package = tmp_path / "stand_in" / "segctl_jobs"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "main.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(package.parent), prepend=os.pathsep)
    return package.parent


@pytest.fixture
def jobs(stand_in: Path, tmp_path: Path) -> Iterator[Jobs]:
    jobs = Jobs(tmp_path / "runs")
    yield jobs
    jobs.clear_away()
