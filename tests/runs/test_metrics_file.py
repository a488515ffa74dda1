"""Figures over steps, as if there had been no interruption."""

from __future__ import annotations

from pathlib import Path

from segctl.runs import metrics
from segctl.runs.files import append_json_line
from segctl.runs.run import Run


def write(run: Run, *records: tuple[str, int, float]) -> None:
    for event, step, loss in records:
        append_json_line(run.metrics_file, {"event": event, "step": step, "loss": loss})


def read(run: Run) -> list[tuple[str, int, float]]:
    return [(record["event"], record["step"], record["loss"]) for record in metrics.read(run)]


def test_what_was_done_again_is_counted_once(tmp_path: Path) -> None:
    run = Run(tmp_path)
    write(run, ("start", 0, 0.0), ("train", 10, 3.0), ("eval", 10, 0.1), ("train", 20, 2.0), ("train", 30, 1.9))
    write(run, ("start", 10, 0.0), ("train", 20, 2.1))

    assert read(run) == [
        ("start", 0, 0.0),
        ("train", 10, 3.0),
        ("eval", 10, 0.1),
        ("start", 10, 0.0),
        ("train", 20, 2.1),
    ]


def test_an_evaluation_repeated_at_the_step_of_the_checkpoint_replaces_the_first(tmp_path: Path) -> None:
    run = Run(tmp_path)
    write(run, ("start", 0, 0.0), ("eval", 10, 0.1), ("start", 10, 0.0), ("eval", 10, 0.2))

    assert read(run) == [("start", 0, 0.0), ("start", 10, 0.0), ("eval", 10, 0.2)]


def test_what_an_earlier_start_adds_late_does_not_count(tmp_path: Path) -> None:
    run = Run(tmp_path)

    def put(event: str, step: int, loss: float, attempt: int, restart: int = 0) -> None:
        record = {"event": event, "attempt": attempt, "restart": restart, "step": step, "loss": loss}
        append_json_line(run.metrics_file, record)

    put("start", 0, 0.0, 1)
    put("train", 10, 3.0, 1)
    put("train", 20, 2.0, 1)
    put("start", 10, 0.0, 1, restart=1)
    put("train", 30, 9.9, 1)  # from a node that was given up, and lives
    put("train", 20, 2.1, 1, restart=1)
    put("start", 20, 0.0, 2)
    put("end", 40, 9.9, 1, restart=1)
    put("train", 30, 1.5, 2)

    assert [each for each in read(run) if each[0] != "start"] == [
        ("train", 10, 3.0),
        ("train", 20, 2.1),
        ("train", 30, 1.5),
    ]


def test_a_torn_line_spoils_only_itself(tmp_path: Path) -> None:
    run = Run(tmp_path)
    write(run, ("train", 10, 3.0))
    with run.metrics_file.open("ab") as file:
        file.write(b'{"event": "train", "st')
    assert read(run) == [("train", 10, 3.0)]

    write(run, ("train", 20, 2.0))
    assert read(run) == [("train", 10, 3.0), ("train", 20, 2.0)]


def test_no_file_no_figures(tmp_path: Path) -> None:
    assert metrics.read(Run(tmp_path)) == []
