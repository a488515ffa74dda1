"""The table of `segctl status`: the columns that say something, within the width of the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from programs import Said

from segctl.runs import store
from segctl.runs.files import write_json
from segctl.runs.run import Run

FIGURES = {"phase": "completed", "step": 40, "steps": 40, "epoch": 5.0, "epochs": 5.0, "loss": 0.5, "best_miou": 0.45}


def finished(backend: str, restarts: int = 0, gpus: int = 0, **supervisor: Any) -> Run:
    """A run of two hours that its job says has completed, so that nobody need be asked."""
    run = store.create("", {"kind": "train", "model": "fcn", "dataset": "camvid", "name": backend}, store.runs_dir())
    plan = {"nodes": 2, "gpus_per_node": gpus, "time_limit": 14400}
    attempt = {"number": 1, "submitted": 0.0, "host": "castle", "job_id": "12", "plan": plan}
    write_json(run.submission_file, {"backend": backend, "attempts": [attempt]})
    whose = {"attempt": 1, "restart": restarts}
    write_json(run.supervisor_file, {**whose, "state": "COMPLETED", "started": 0.0, "ended": 7200.0, **supervisor})
    write_json(run.status_file, {**whose, **FIGURES, "began": 360.0, "heartbeat": time.time()})
    return run


def table(segctl: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, width: int) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = segctl("status").out.splitlines()
    assert all(len(line) <= width for line in lines)
    return lines


def test_a_run_on_a_cluster_shows_where_and_what_it_cost(
    segctl: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {"restart": 0, "started": -7200.0, "ended": -3600.0, "began": -7100.0, "saved": -3960.0}
    last = {"restart": 1, "started": 0.0, "ended": 7200.0}
    finished("slurm", restarts=1, gpus=2, nodes="gpu[01-02]", history=[first, last])

    heading, row = table(segctl, monkeypatch, 180)

    assert heading.split()[2:] == [
        *("EPOCH", "BEST", "LOSS", "WHERE", "TIME", "RESTARTS", "GPU-H", "LOST-H", "KIND", "MODEL", "DATASET", "ON"),
    ]
    # Three hours on four GPUs, of which a tenth of an hour was not saved and a tenth went into the second start.
    assert row.split()[2:9] == ["5/5", "45.0", "0.5", "gpu[01-02]", "2h", "00m/4h", "00m"]
    assert row.split()[9:] == ["1", "11.2", "0.8", "train", "fcn", "camvid", "slurm"]


def test_a_run_on_this_machine_shows_less(segctl: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    finished("local")
    heading = table(segctl, monkeypatch, 180)[0]
    assert heading.split()[2:] == ["EPOCH", "BEST", "LOSS", "WHERE", "TIME", "KIND", "MODEL", "DATASET", "ON"]


@pytest.mark.parametrize(
    ("done", "all_of_them", "shown"),
    [(0.04, 0.04, "0.04/0.04"), (0.0, 0.04, "0/0.04"), (0.16, 0.5, "0.2/0.5"), (3.21, 50.0, "3.2/50")],
)
def test_epochs_say_something_in_a_run_of_a_few_steps_too(
    done: float, all_of_them: float, shown: str, segctl: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished("local")
    figures = {**FIGURES, "epoch": done, "epochs": all_of_them}
    write_json(run.status_file, {"attempt": 1, "restart": 0, **figures, "heartbeat": time.time()})
    assert table(segctl, monkeypatch, 180)[1].split()[2] == shown


def test_a_narrow_terminal_shows_the_first_columns(
    segctl: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    finished("slurm", nodes="gpu[01,03,05,07,09,11,13]")
    assert table(segctl, monkeypatch, 80)[0].split()[:5] == ["RUN", "STATE", "EPOCH", "BEST", "LOSS"]
    assert "  gpu[01,03,05,07,0...  " in table(segctl, monkeypatch, 120)[1]
