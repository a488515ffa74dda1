"""What a rank printed, at once or as it comes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from segctl.errors import RunError
from segctl.logs import logs
from segctl.runs.files import write_json
from segctl.runs.run import Run

if TYPE_CHECKING:
    from launched import Jobs


def ended(run: Run) -> None:
    attempt = {"number": 1, "submitted": 1.0, "host": "castle"}
    write_json(run.submission_file, {"backend": "local", "attempts": [attempt]})
    write_json(run.supervisor_file, {"attempt": 1, "state": "COMPLETED"})


def read(run: Run, **options: object) -> list[str]:
    return list(logs(run.id, runs_dir=run.path.parent, **options))  # type: ignore[arg-type]


def test_lines_of_each_rank(jobs: Jobs) -> None:
    run = jobs.make("")
    ended(run)
    run.log_file(1, 0).write_bytes(b"one\ntwo\r\n\xff torn")
    run.log_file(1, 1).write_text("other\n")

    assert read(run) == ["one", "two", "\N{REPLACEMENT CHARACTER} torn"]
    assert read(run, rank=1, follow=True) == ["other"], "a run that has ended is not waited for"
    with pytest.raises(RunError, match=r"has no rank 2. It has ranks 0 and 1."):
        read(run, rank=2)


def test_following_goes_on_until_the_end_over_a_line_that_comes_in_parts(jobs: Jobs) -> None:
    run = jobs.start(
        """
        import sys, time
        for number in range(3):
            sys.stdout.write(f"line {number}"); sys.stdout.flush(); time.sleep(0.3); print(" ends")
            while not (run_dir / "go").exists(): time.sleep(0.02)
        sys.stdout.write("no newline")
        """
    )
    lines: list[str] = []
    first = threading.Event()

    def follow() -> None:
        for line in logs(run.id, follow=True, runs_dir=run.path.parent):
            lines.append(line)
            first.set()

    thread = threading.Thread(target=follow)
    thread.start()
    assert first.wait(60), "the first line is there while the job goes on"
    assert lines == ["line 0 ends"]
    (run.path / "go").write_text("")
    thread.join(60)
    assert lines == ["line 0 ends", "line 1 ends", "line 2 ends", "no newline"]


def test_before_anything_is_printed(jobs: Jobs) -> None:
    run = jobs.make("")
    with pytest.raises(RunError, match=r"has not printed anything: it is PENDING"):
        read(run)


def test_when_no_rank_was_started_the_supervisor_speaks(jobs: Jobs) -> None:
    run = jobs.make("")
    ended(run)
    write_json(run.supervisor_file, {"attempt": 1, "state": "FAILED", "reason": "no fork"})
    run.supervisor_log.write_text("fork: not enough memory\n")
    assert read(run) == ["fork: not enough memory"]
