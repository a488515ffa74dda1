"""Our classes in submitit's plugin hook: found by name, chosen by nobody who did not ask, importable without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import submitit
from submitit.core import plugins

from segctl.errors import LaunchError
from segctl.launch.environment import EXECUTOR, cleaned
from segctl.launch.local.executor import SegctlLocalExecutor, SegctlLocalJob

if TYPE_CHECKING:
    from launched import Jobs


def test_submitit_finds_executor_and_environment_by_their_name() -> None:
    assert plugins.get_executors()[EXECUTOR] is SegctlLocalExecutor
    assert EXECUTOR in plugins.get_job_environments()


def test_other_programs_get_the_executor_they_always_got(tmp_path: Path) -> None:
    assert submitit.AutoExecutor(folder=tmp_path).cluster != EXECUTOR
    with pytest.raises(LaunchError, match="segctl's runs only"):
        SegctlLocalExecutor(tmp_path / "run" / "submitit").submit(print)


def test_the_hook_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import segctl.launch.local.executor, segctl.launch.local.supervisor, segctl.launch.payload\n"
        "print([name for name in ('pydantic', 'typer', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_tracking_needs_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'submitit', 'pydantic', 'yaml', 'numpy'): sys.modules[name] = None\n"
        "import segctl; print(segctl.status()); import segctl.logs, segctl.cancel"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "()"


def test_submitits_own_view_of_a_job(jobs: Jobs) -> None:
    run = jobs.start("print('hello')", procs=2)
    jobs.ended(run)
    job = SegctlLocalJob(run.submitit, "attempt1", tasks=(0, 1))

    assert (job.state, job.done(), job.results()) == ("COMPLETED", True, [None, None])
    assert "hello" in str(job.stdout())


def test_what_other_launchers_set_is_left_out() -> None:
    environment = {"SLURM_JOB_ID": "1", "SLURM_CONF": "/etc/slurm.conf", "HOME": "/root", "MASTER_ADDR": "x"}
    assert cleaned({**environment, "RANK": "0", "SEGCTL_RUN_DIR": "/r", "SEGCTL_RUNS": "/runs"}) == {
        "SLURM_CONF": "/etc/slurm.conf",
        "HOME": "/root",
        "SEGCTL_RUNS": "/runs",
    }
