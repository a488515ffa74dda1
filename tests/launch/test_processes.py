"""Finding and ending the processes of a job, and only those."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from segctl.launch.local.processes import RUN_MARK, SUPERVISOR_MARK, kill_strays


def test_jobs_that_a_job_has_submitted_are_not_its_own(tmp_path: Path) -> None:
    """A descendant without a mark is the job's; a supervisor and what it started are not."""
    code = f"""
import os, subprocess, sys
from pathlib import Path
from segctl.launch.local.processes import adopt_orphans, kill_job
adopt_orphans()
def sleeper(**environment): return subprocess.Popen(["sleep", "60"], env={{**os.environ, **environment}})
own = sleeper()
others = [sleeper({SUPERVISOR_MARK}="/other"), sleeper({RUN_MARK}="/other")]
print(kill_job(Path({str(tmp_path)!r})), own.poll() is None, [other.poll() for other in others])
for other in others: other.kill()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False [None, None]"


def test_what_a_job_left_behind_is_known_by_its_mark(tmp_path: Path) -> None:
    mine = subprocess.Popen(["sleep", "60"], env={**os.environ, RUN_MARK: os.path.realpath(tmp_path)})
    other = subprocess.Popen(["sleep", "60"], env={**os.environ, RUN_MARK: os.path.realpath(tmp_path) + "2"})
    plain = subprocess.Popen(["sleep", "60"])
    try:
        assert kill_strays(tmp_path) == []
        assert mine.wait(10) == -9
        assert (other.poll(), plain.poll()) == (None, None), "not even children of this very process"
    finally:
        for process in (mine, other, plain):
            process.kill()
            process.wait()
