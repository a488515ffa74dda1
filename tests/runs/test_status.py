"""The figures of a run, and which runs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import segctl
from segctl.runs import store
from segctl.runs.files import write_json
from segctl.runs.process import identify
from segctl.runs.run import Run

FIGURES = {
    "step": 40,
    "steps": 100,
    "epoch": 2.0,
    "epochs": 5.0,
    "loss": 0.5,
    "lr": 0.01,
    "miou": 0.4,
    "best_miou": 0.45,
}


def submitted(run: Run, number: int = 1) -> None:
    me = identify(os.getpid())
    assert me is not None
    attempt = {"number": number, "submitted": time.time(), **me.as_record(), "plan": {}}
    write_json(run.submission_file, {"backend": "local", "attempts": [attempt]})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    record = {"kind": "train", "model": "fcn", "backbone": "resnet50", "dataset": "camvid", "name": "first"}
    return store.create("", record, tmp_path / "runs")


def test_a_running_one(run: Run) -> None:
    submitted(run)
    started = time.time() - 60
    write_json(run.supervisor_file, {"attempt": 1, "state": "RUNNING", "started": started})
    status = {"attempt": 1, "phase": "training", "heartbeat": time.time(), "eta_seconds": 90.0, **FIGURES}
    write_json(run.status_file, {**status, "samples_per_second": 12.5})

    before = time.time()
    (found,) = segctl.status(run.id)

    assert (found.state, found.why, found.name, found.kind) == ("RUNNING", "training", "first", "train")
    assert (found.model, found.backbone, found.dataset, found.backend) == ("fcn", "resnet50", "camvid", "local")
    assert {key: getattr(found, key) for key in FIGURES} == FIGURES
    assert (found.eta_seconds, found.samples_per_second, found.attempt) == (90.0, 12.5, 1)
    assert before - 0.001 <= started + (found.elapsed or 0) <= time.time() + 0.001
    assert found.rests_on == f"process {os.getpid()}"


def test_what_an_earlier_attempt_said_is_no_word_of_this_one(run: Run) -> None:
    submitted(run, number=2)
    write_json(run.supervisor_file, {"attempt": 1, "state": "FAILED"})
    write_json(run.error_file(0), {"attempt": 1, "rank": 0, "type": "ValueError", "message": "old"})
    write_json(run.cancel_file, {"attempt": 1, "user": "ada"})
    write_json(run.status_file, {"attempt": 1, "phase": "training", "heartbeat": 1.0, "eta_seconds": 5.0, **FIGURES})

    (found,) = segctl.status(run.id)

    assert (found.state, found.attempt, found.eta_seconds, found.phase) == ("PENDING", 2, None, None)
    assert found.best_miou == 0.45, "its figures stand until there are newer ones"


def test_a_finished_one(run: Run) -> None:
    submitted(run)
    write_json(run.supervisor_file, {"attempt": 1, "state": "COMPLETED", "started": 100.0, "ended": 160.0})
    write_json(run.status_file, {"attempt": 1, "phase": "completed", "eta_seconds": 0.0, **FIGURES})

    (found,) = segctl.status([str(run.path)])

    assert (found.state, found.why, found.elapsed, found.eta_seconds) == ("COMPLETED", "", 60.0, None)


def test_the_functions_stay_callable_once_their_modules_are_imported() -> None:
    import segctl.logs
    from segctl.status import of

    assert of([]) == segctl.status() == segctl.status()
    assert callable(segctl.logs)


def test_all_of_them_newest_first(run: Run) -> None:
    older = store.create("", {"kind": "eval", "model": "enet", "created": 5e8}, run.path.parent)
    assert [found.id for found in segctl.status()] == [run.id, older.id]
    assert [found.id for found in segctl.status([older.id, "first"])] == [older.id, run.id]


def test_damaged_files_do_not_stop_the_list(run: Run) -> None:
    submitted(run)
    for path in (run.status_file, run.supervisor_file, run.cancel_file):
        path.write_text('{"attempt": 1, "sta')
    other = store.create("", {"kind": "train"}, run.path.parent)
    other.run_file.write_text("[1, 2]")
    other.submission_file.write_text('{"attempts": [3]}')

    assert {found.id: found.state for found in segctl.status()} == {run.id: "PENDING", other.id: "LOST"}
