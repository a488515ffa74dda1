"""One rank of four goes wrong: the job ends within half a minute, and says which rank, where and why."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from cluster import Cluster
from trained import Training

# What the third rank does in the middle of the training, by the data set's option `trouble`.
TROUBLE = """
import ctypes, os, signal, time
from pathlib import Path

from segctl_datasets.shapes import Shapes


class Trouble(Shapes):
    '''Shapes, until the third rank has drawn ten of them.'''

    def __init__(self, root: Path, split: str, *, trouble: str, size: int = 64, eval_samples: int = 8):
        super().__init__(root, split, size=size, eval_samples=eval_samples)
        self.trouble, self.drawn = trouble, 0

    def __getitem__(self, index):
        self.drawn += 1
        if os.environ.get("RANK") == "2" and self.drawn == 10:
            Path(os.environ["TEST_MOMENT"]).write_text(str(time.time()))
            getattr(self, self.trouble)()
        return super().__getitem__(index)

    def raises(self):
        raise RuntimeError("the third rank is unwell")

    def exits(self):
        os._exit(3)

    def leaves(self):
        os._exit(0)

    def crashes(self):
        ctypes.string_at(0)

    def is_killed(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def hangs(self):
        time.sleep(3600)

    def eats(self):
        hoard = []
        while True:
            hoard.append(b"x" * 50_000_000)
"""


@pytest.fixture
def trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set plugin that makes trouble; returns the file that says when it did."""
    folder = tmp_path / "plugin"
    (folder / "trouble-1.dist-info").mkdir(parents=True)
    (folder / "trouble-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: trouble\nVersion: 1\n")
    (folder / "trouble-1.dist-info" / "entry_points.txt").write_text("[segctl.datasets]\ntrouble = trouble:Trouble\n")
    (folder / "trouble.py").write_text(TROUBLE)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("TEST_MOMENT", str(tmp_path / "moment"))
    return tmp_path / "moment"


@pytest.mark.parametrize(
    ("kind", "flags", "why", "seconds"),
    [
        pytest.param(
            "raises", [], r"RuntimeError: the third rank is unwell \(rank 2 on n\d, trouble\.py:\d+", 30, id="raises"
        ),
        pytest.param("exits", [], r"rank 2 on n\d ended with exit code 3", 30, id="exits"),
        pytest.param(
            "leaves", [], r"rank 2( on n\d)? ended without finishing its work, though with exit code 0", 60, id="leaves"
        ),
        pytest.param("crashes", [], r"rank 2 on n\d was killed by SIGSEGV", 30, id="segfaults"),
        pytest.param("is_killed", [], r"rank 2 on n\d was killed by SIGKILL", 30, id="is killed"),
        pytest.param("eats", ["--slurm", "mem=3G"], r"rank 2 on n\d .*memory", 60, id="out of memory"),
        pytest.param(
            "hangs",
            ["--set", "launch.hang_timeout=10"],
            r"rank 2 on n\d.*no progress|no progress.*rank 2 on n\d",
            60,
            id="hangs",
        ),
    ],
)
def test_it_ends_soon_and_says_why(
    cluster: Cluster, trouble: Path, kind: str, flags: list[str], why: str, seconds: float
) -> None:
    if kind == "eats" and not cluster.limits_memory:
        pytest.skip("this machine has no control groups to limit memory with")
    training = Training.submit(
        *("--on", "slurm", "--nodes", 2, "--procs", 2, "--dataset", "trouble", "--dataset.trouble", kind), *flags
    )
    training.wait_until(trouble.exists, 180, "the trouble to begin")
    status = training.wait_for_end()
    took = time.time() - float(trouble.read_text())
    assert status["state"] == "FAILED", training.story()
    assert re.search(why, status["why"]), f"{status['why']}\n{training.story()}"
    assert took < seconds, f"{took} s"
    assert training.restart() == 0, "a person's error is not tried again"
    cluster.wait_for(lambda: training.job not in cluster.queue(), 30, "SLURM to let go of the job")
