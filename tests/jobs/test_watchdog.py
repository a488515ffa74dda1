"""A process that makes no progress ends itself and says where it was; one that is merely slow does not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ranks import make_run, start, started

from segctl.runs.blame import blame
from segctl.runs.run import Run
from segctl_jobs import watchdog
from segctl_jobs.watchdog import Place, collective_timeout, patience, place

pytestmark = pytest.mark.usefixtures("no_rank_left_running")

PYTHON = "/usr/lib/python3.12"
TORCH = f"{PYTHON}/site-packages/torch"
JOBS = f"{PYTHON}/site-packages/segctl_jobs"
STEP = [(f"{JOBS}/main.py", 40, "run"), (f"{JOBS}/engine.py", 180, "train_step")]


@pytest.mark.parametrize(
    ("inner", "found"),
    [
        (
            [(f"{TORCH}/distributed/c10d_logger.py", 83, "wrapper"), (f"{TORCH}/distributed/d.py", 9, "all_reduce")],
            Place("all_reduce (d.py:9), called from train_step (engine.py:180)", True),
        ),
        (
            [(f"{TORCH}/_tensor.py", 600, "backward"), (f"{TORCH}/autograd/graph.py", 800, "_engine_run_backward")],
            Place("_engine_run_backward (graph.py:800), called from train_step (engine.py:180)", True),
        ),
        ([], Place("train_step (engine.py:180)", True)),  # it waits for the GPU
        (
            [(f"{TORCH}/nn/modules/module.py", 1, "_call_impl"), ("/home/ada/net.py", 12, "forward")],
            Place("forward (net.py:12)", False),
        ),
        (
            [(f"{TORCH}/utils/data/dataloader.py", 1, "_get_data"), (f"{PYTHON}/selectors.py", 415, "select")],
            Place("select (selectors.py:415), called from train_step (engine.py:180)", False),
        ),
        (
            [(f"{JOBS}/checkpoint.py", 66, "wait"), (f"{PYTHON}/threading.py", 1139, "join")],
            Place("join (threading.py:1139), called from wait (checkpoint.py:66)", False),
        ),
    ],
)
def test_where_a_thread_is_and_whether_it_waits_for_others(inner: list[Any], found: Place) -> None:
    assert place([*STEP, *inner]) == found


def test_a_stack_without_python() -> None:
    assert place([]) == Place("code that is not Python", False)


def test_starting_may_take_longer_and_no_collective_speaks_first() -> None:
    assert [patience(limit, "starting") for limit in (5, 900, 7200)] == [1800, 1800, 7200]
    assert [patience(limit, "training") for limit in (5, 900, 7200)] == [5, 900, 7200]
    for limit in (5, 900, 7200):
        assert collective_timeout(limit) > timedelta(seconds=max(patience(limit, each) for each in ("starting", "x")))
    assert collective_timeout(0) > timedelta(days=7)


SCRIPT = """
import ctypes, os, sys, time
from pathlib import Path
from segctl.runs.run import Run
from segctl_jobs import watchdog

def stuck():
    {trouble}

with watchdog.watching(Run(Path(sys.argv[1])), rank=0, world_size=1, hang_timeout=float(sys.argv[2])):
    watchdog.beat("training")
    time.sleep(0.5)
    print("now", flush=True)
    stuck()
print("done", flush=True)
"""


def watched(trouble: str, hang_timeout: float, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT.format(trouble=trouble), str(folder), str(hang_timeout)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started.append(process)  # type: ignore[arg-type]
    return process


def record(run: Run, rank: int = 0) -> dict[str, Any]:
    found = json.loads(run.error_file(rank).read_text())
    assert isinstance(found, dict)
    return found


@pytest.mark.slow
def test_a_process_that_hangs_leaves_its_stacks_and_ends(tmp_path: Path) -> None:
    # By then the others have left, which breaks the collective that it waits in. That is not to be its last word.
    process = watched("time.sleep(4); raise RuntimeError('Connection closed by peer')", 2, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    began = time.monotonic()
    _, said = process.communicate(timeout=120)
    took = time.monotonic() - began

    assert process.returncode == 124
    assert 2 <= took < 30, "two seconds, and five for the others; the rest is for a busy machine"
    found = record(Run(tmp_path))
    assert (found["type"], found["waiting"], found["world_size"]) == ("HangError", False, 1)
    assert found["message"].startswith("no progress for 2 s while training, in stuck (<string>:")
    assert 2 <= found["time"] - found["since"] < 4
    stacks = (tmp_path / "stacks" / "attempt1-rank0.txt").read_text()
    assert str(tmp_path / "stacks" / "attempt1-rank0.txt") in found["hint"]
    assert " in stuck\n" in stacks
    assert "is MainThread" in stacks
    assert "no progress" in said


@pytest.mark.slow
def test_one_that_holds_pythons_lock_ends_too_a_little_later(tmp_path: Path) -> None:
    process = watched("ctypes.PyDLL(None).sleep(600)", 1, tmp_path)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Timeout (" in said
    assert " in stuck\n" in said
    assert not (tmp_path / "errors").exists()


@pytest.mark.slow
def test_beats_keep_it_alive_and_so_does_a_suspension(tmp_path: Path) -> None:
    process = watched("for _ in range(12): time.sleep(0.5); watchdog.beat()", 3, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(6)
    process.send_signal(signal.SIGCONT)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "done\n")


def test_it_is_off_with_zero_and_leaves_nothing_behind(tmp_path: Path) -> None:
    process = watched("time.sleep(0.1)", 0, tmp_path)
    out, said = process.communicate(timeout=60)
    assert (process.returncode, out, said) == (0, "now\ndone\n", "")
    assert list(tmp_path.iterdir()) == []


def test_a_beat_costs_nothing_to_speak_of() -> None:
    """A training step takes milliseconds at least."""

    def once() -> float:
        began = time.process_time()
        for _ in range(10_000):
            watchdog.beat("training")
        return (time.process_time() - began) / 10_000

    assert min(once() for _ in range(5)) < 5e-6


FRAGILE = ("model.name=fragile", "train.ema=null", "train.eval_every=0")


def fragile(folder: Path, path: str, *settings: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.syspath_prepend(path)
    return make_run(folder, *FRAGILE, *settings)


@pytest.mark.slow
def test_of_two_ranks_that_hang_the_one_that_the_other_waits_for_is_blamed(
    tmp_path: Path, fragile_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("model.trouble=sleep", "model.rank=1", "model.step=5", "launch.hang_timeout=4")
    run = fragile(tmp_path / "run", fragile_path, *settings, monkeypatch=monkeypatch)
    processes = start(run, size=2, PYTHONPATH=fragile_path)
    codes = [process.wait(timeout=240) for process in processes]

    assert codes == [124, 124]
    assert [record(run, rank)["waiting"] for rank in (0, 1)] == [True, False]
    assert "in all_gather" in record(run, 0)["message"]
    assert "sync_batchnorm.py" in record(run, 0)["message"]
    for rank in (0, 1):
        assert record(run, rank)["time"] < time.time() < record(run, rank)["time"] + 60
        assert "engine.py" in (run.stacks / f"attempt1-rank{rank}.txt").read_text()
    found = blame([record(run, rank) for rank in (0, 1)], [])
    assert found is not None
    assert (found.rank, found.fault, found.host) == (1, "hang", os.uname().nodename)
    assert found.why.startswith("no progress for 4 s while training, in doze (fragile_plugin.py:")
    assert found.why.endswith(f"(rank 1 on {os.uname().nodename})")


@pytest.mark.slow
def test_a_data_worker_that_hangs_shows_where(
    tmp_path: Path, fragile_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("dataset.name=slow_shapes", "train.workers=1", "launch.hang_timeout=4", "train.checkpoint_every=null")
    run = fragile(tmp_path / "run", fragile_path, *settings, monkeypatch=monkeypatch)
    (process,) = start(run, PYTHONPATH=fragile_path)

    assert process.wait(timeout=240) == 124
    assert "called from training_batches (data.py:" in record(run)["message"]
    assert not record(run)["waiting"]
    log = run.log_file(1, 0).read_text()
    assert " in doze\n" in log[log.index("no progress") :]
