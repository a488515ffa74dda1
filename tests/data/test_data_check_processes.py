"""`segctl data check` in worker processes: none is left behind, and memory is bounded."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import segctl
from segctl.errors import DataError

SEGCTL = str(Path(sys.executable).with_name("segctl"))


def test_a_worker_that_is_killed_is_told_with_the_place(toys: None, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"A worker process was killed.* train-0 and train-4 of train"):
        segctl.check_data("hungry", data_root=tmp_path, workers=2)


@pytest.fixture
def under_way(toys: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> subprocess.Popen[str]:
    """A check that takes its time, once both of its workers are at it."""
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setenv("TOY_MARK", str(marks))
    command = [SEGCTL, "data", "check", "slow", "--data-root", str(tmp_path), "--workers", "2"]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(list(marks.iterdir())) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def left_of(workers: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    return psutil.wait_procs(workers, timeout=seconds)[1]


def test_ctrl_c_leaves_nothing_behind(under_way: subprocess.Popen[str]) -> None:
    workers = psutil.Process(under_way.pid).children()
    assert len(workers) == 2

    os.killpg(under_way.pid, signal.SIGINT)

    _, said = under_way.communicate(timeout=60)
    assert under_way.returncode == 130
    assert "Traceback" not in said
    assert left_of(workers, 60) == []


def test_workers_end_with_a_check_that_is_killed(under_way: subprocess.Popen[str]) -> None:
    workers = psutil.Process(under_way.pid).children()

    under_way.kill()
    under_way.communicate(timeout=60)

    assert left_of(workers, 60) == []


def computed() -> float:
    """Processor seconds of the programs that have ended, and of theirs: other work on the machine must not decide."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.slow
def test_memory_is_bounded_and_time_is_short(toys: None, tmp_path: Path) -> None:
    """What is kept of a sample is its name and digests: some hundred bytes."""
    code = (
        "import sys; import segctl; from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage; "
        "segctl.check_data('plain', data_root='.', workers=2, splits=['train'], options={'many': int(sys.argv[1])}); "
        "print(getrusage(RUSAGE_SELF).ru_maxrss, getrusage(RUSAGE_CHILDREN).ru_maxrss)"
    )

    def peak(samples: int) -> tuple[int, int]:
        done = subprocess.run(
            [sys.executable, "-c", code, str(samples)], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        own, children = done.stdout.split()
        return int(own), int(children)

    (few, few_in_workers), before = peak(1000), computed()
    many, many_in_workers = peak(31_000)

    assert computed() - before < 60
    assert many - few < 30_000  # KiB for 30,000 samples
    assert many_in_workers - few_in_workers < 20_000
