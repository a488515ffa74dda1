"""Time limits, requests to requeue and what comes after them on this machine, with real processes."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from segctl.cancel import cancel
from segctl.errors import RunError
from segctl.requeue import requeue
from segctl.runs.files import read_json, read_json_lines
from segctl.runs.run import Run
from segctl.status import of

if TYPE_CHECKING:
    from launched import Jobs

# Does one piece of work each time it runs, and saves where it has got when it is asked to.
IN_TURNS = """
import json, os, sys, time
def tell(event):
    with open(run_dir.parent.parent / "timeline", "a") as file:
        file.write(json.dumps({"event": event, "run": run_dir.name, "signal": stop(), "time": time.time(),
                               "restart": int(os.environ["SEGCTL_RESTART"])}) + "\\n")
folder = run_dir / "checkpoints"
folder.mkdir(exist_ok=True)
done = len(list(folder.iterdir()))
tell("begins")
print("begins after", done)
while done < TURNS - 1:
    time.sleep(0.02)
    if stop():
        (folder / f"step-{done + 1:08d}.pt").write_text("")
        tell("saves")
        sys.exit(75)
tell("ends")
"""
UNTIL_STOPPED = """
import os, sys, time
(run_dir / f"up{os.environ['SEGCTL_RESTART']}").write_text("up")
while not stop(): time.sleep(0.02)
sys.exit(75)
"""


def in_turns(turns: int) -> str:
    return IN_TURNS.replace("TURNS", str(turns))


def record(run: Run) -> dict[str, object]:
    return read_json(run.supervisor_file) or {}


def runs_in_its_start(jobs: Jobs, run: Run, restart: int) -> None:
    """Its rank is at work, and its supervisor has said so, which may come later."""
    jobs.file(run, f"up{restart}")
    jobs.until(lambda: record(run), lambda said: (said.get("state"), said.get("restart")) == ("RUNNING", restart))


def asked_to_requeue(run: Run) -> object:
    return requeue(run, runs_dir=run.path.parent)


@pytest.mark.slow
def test_jobs_take_turns_by_their_time_limits(jobs: Jobs, tmp_path: Path) -> None:
    """Over one CPU slot: each saves ahead of its limit, lets the other go first, and goes on where it was."""
    limits = {"cpu_slots": 1, "time_limit": 28, "save_before": 16}  # it is asked after 12 s
    one = jobs.start(in_turns(3), **limits)
    other = jobs.start(in_turns(2), **limits)

    waiting = jobs.wait(one, "REQUEUED")
    assert waiting.why.startswith("after its time limit")
    jobs.until(lambda: of([one])[0].why, lambda why: why.endswith(f"used by {other.id}"))
    assert [jobs.ended(run).state for run in (one, other)] == ["COMPLETED"] * 2

    told = [(each["run"], each["restart"], each["event"]) for each in read_json_lines(tmp_path / "timeline")]
    assert told == [
        (one.id, 0, "begins"),
        (one.id, 0, "saves"),
        (other.id, 0, "begins"),
        (other.id, 0, "saves"),
        (one.id, 1, "begins"),
        (one.id, 1, "saves"),
        (other.id, 1, "begins"),
        (other.id, 1, "ends"),
        (one.id, 2, "begins"),
        (one.id, 2, "ends"),
    ]
    assert {each["signal"] for each in read_json_lines(tmp_path / "timeline") if each["event"] == "saves"} == {
        "SIGUSR2"
    }
    assert of([one])[0].attempt == 1
    said = record(one)
    history = said["history"]
    assert isinstance(history, list)
    assert (said["restart"], [each["restart"] for each in history]) == (2, [0, 1, 2])
    assert [each["reason"] for each in history] == ["after its time limit"] * 2 + [""]
    assert [each["from_step"] for each in history] == [0, 1, 2]
    assert all(before["ended"] <= after["started"] for before, after in itertools.pairwise(history))
    assert all(11.5 < each["ended"] - each["started"] < 28 for each in history[:2])
    log = one.log_file(1, 0).read_text().split("\n")
    assert [line for line in log if line.startswith("begins")] == [f"begins after {done}" for done in (0, 1, 2)]


def test_a_request_to_requeue_saves_and_lets_others_go_first(jobs: Jobs) -> None:
    first = jobs.start(in_turns(2), cpu_slots=1)
    jobs.until(lambda: first.log_file(1, 0).exists() and first.log_file(1, 0).read_text(), bool)
    jobs.wait(first, "RUNNING")
    second = jobs.start(UNTIL_STOPPED, cpu_slots=1)
    jobs.until(lambda: of([second])[0].why, lambda why: "slot" in why)
    with pytest.raises(RunError, match="does not run, so it cannot be requeued; it is PENDING: waits for"):
        asked_to_requeue(second)
    os.kill(jobs.supervisor(second).pid, signal.SIGUSR2)  # it waits already

    found = requeue(first, runs_dir=first.path.parent)
    assert (found.state, found.why.startswith("after a request to requeue")) == ("REQUEUED", True)
    jobs.file(second, "up0")
    with pytest.raises(RunError, match="it is REQUEUED"):
        asked_to_requeue(first)
    assert cancel(second, runs_dir=second.path.parent).state == "CANCELLED"

    done = jobs.ended(first)
    assert (done.state, done.attempt, record(first)["restart"]) == ("COMPLETED", 1, 1)
    with pytest.raises(RunError, match="it is COMPLETED"):
        asked_to_requeue(first)


@pytest.mark.slow
def test_a_job_that_waits_to_go_on_can_be_cancelled_or_lost_as_any_other(jobs: Jobs) -> None:
    first, second = (jobs.start(UNTIL_STOPPED, cpu_slots=2) for _ in range(2))
    for run in (first, second):
        runs_in_its_start(jobs, run, 0)
    blockers = [jobs.start(UNTIL_STOPPED, cpu_slots=2) for _ in range(2)]
    for run in (first, second):
        assert requeue(run, runs_dir=run.path.parent).state == "REQUEUED"
    for run in blockers:
        jobs.file(run, "up0")

    cancelled = cancel(first, runs_dir=first.path.parent)
    assert (cancelled.state, cancelled.why.endswith("while it waited for its turn")) == ("CANCELLED", True)
    os.kill(jobs.supervisor(second).pid, signal.SIGKILL)
    assert f"segctl resume {second.id}" in jobs.wait(second, "LOST").hint

    for run in blockers:
        cancel(run, runs_dir=run.path.parent)
    jobs.submit(second, cpu_slots=2)
    jobs.until(lambda: of([second])[0], lambda seen: (seen.attempt, seen.state) == (2, "RUNNING"))
    assert (record(second)["restart"], len(record(second)["history"])) == (0, 1)  # type: ignore[arg-type]
    assert cancel(second, runs_dir=second.path.parent).state == "CANCELLED"
    assert not (first.path / "up1").exists()


def test_what_a_rank_achieved_before_a_restart_does_not_count_after_it(jobs: Jobs) -> None:
    """Its result and its error stay behind: the second time rank 1 leaves without a word."""
    run = jobs.start(
        """
        import json, os, sys, time
        again = os.environ["SEGCTL_RESTART"] == "1"
        (run_dir / f"up{rank}").write_text("up")
        if rank == 0 and not again:
            while not stop(): time.sleep(0.02)
            error = {"attempt": 1, "restart": 0, "rank": 0, "type": "ConnectionResetError", "message": "peer is gone",
                     "traceback": "", "time": time.time()}
            (run_dir / "errors" / "rank0.json").write_text(json.dumps(error))
            sys.exit(75)
        if rank == 1 and again:
            os._exit(0)
        while again and not stop(): time.sleep(0.02)
        """,
        procs=2,
    )
    jobs.until(lambda: list(run.submitit.glob("*_1_result.pkl")), bool)
    jobs.wait(run, "RUNNING")
    assert requeue(run, runs_dir=run.path.parent).state in ("REQUEUED", "RUNNING", "FAILED")

    found = jobs.ended(run)
    assert (found.state, found.why) == ("FAILED", "rank 1 ended without finishing its work, though with exit code 0")
    assert record(run)["restart"] == 1


@pytest.mark.slow
def test_nobody_waits_for_a_rank_that_was_asked_before_it_listened(jobs: Jobs) -> None:
    """The other one is at a place where all ranks must come together."""
    run = jobs.start(
        """
        import os, signal, time
        if os.environ["SEGCTL_RESTART"] == "0":
            if rank == 1:
                signal.signal(signal.SIGUSR2, signal.SIG_DFL)
            (run_dir / f"up{rank}").write_text("up")
            time.sleep(300)
        """,
        procs=2,
    )
    for rank in (0, 1):
        jobs.file(run, f"up{rank}")
    jobs.wait(run, "RUNNING")
    began = time.monotonic()
    requeue(run, runs_dir=run.path.parent)
    assert time.monotonic() - began < 30, "of the 60 s that they have to save"
    assert (jobs.ended(run).state, record(run)["restart"]) == ("COMPLETED", 1)


@pytest.mark.slow
def test_a_job_that_may_not_go_on_ends_at_its_time_limit(jobs: Jobs) -> None:
    run = jobs.start(in_turns(2), time_limit=15, save_before=9, requeue=False)
    jobs.until(lambda: of([run])[0].state == "RUNNING", bool)
    with pytest.raises(RunError, match=r"may not go on by itself: launch.requeue is false\. Stop it with"):
        asked_to_requeue(run)

    found = jobs.ended(run)
    assert found.state == "TIMEOUT"
    assert found.why == "stopped after its time limit; it does not go on by itself: launch.requeue is false"
    assert f"segctl resume {run.id}" in found.hint


def test_restarts_are_counted(jobs: Jobs) -> None:
    run = jobs.start(UNTIL_STOPPED, max_restarts=1)
    runs_in_its_start(jobs, run, 0)
    requeue(run, runs_dir=run.path.parent)
    runs_in_its_start(jobs, run, 1)
    with pytest.raises(RunError, match=r"launch\.max_restarts \(1\) is used up"):
        asked_to_requeue(run)
    os.kill(jobs.supervisor(run).pid, signal.SIGUSR2)

    found = jobs.ended(run)
    assert (found.state, "launch.max_restarts (1) is used up" in found.why) == ("CANCELLED", True)


def test_a_time_limit_that_is_too_short_for_anything_is_given_up(jobs: Jobs) -> None:
    """It ends while Python and torch are being loaded: the second time in a row without a checkpoint is the last."""
    run = jobs.start(UNTIL_STOPPED, time_limit=10, save_before=10)
    found = jobs.ended(run)
    assert found.state == "TIMEOUT"
    assert "twice in a row it came to no new checkpoint by then, so it needs more time (launch.time)" in found.why
    assert record(run)["restart"] == 1


@pytest.mark.slow
def test_ranks_that_do_not_stop_are_killed_at_the_limit(jobs: Jobs) -> None:
    run = jobs.start("import time\nwhile True: time.sleep(1)", time_limit=16, save_before=4)  # it listens by then
    stopping = jobs.until(lambda: of([run])[0], lambda seen: "stopping" in seen.why)
    assert (stopping.state, stopping.why) == ("RUNNING", "stopping for its time limit")
    found = jobs.ended(run)
    assert (found.state, found.why) == ("TIMEOUT", "killed: it had not stopped when the time limit was reached")
    assert record(run)["restart"] == 0


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ("raise ValueError('13 classes')", "ValueError: 13 classes"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "rank 0 was killed by SIGKILL"),
    ],
)
def test_a_rank_that_fails_by_itself_is_not_tried_again(jobs: Jobs, end: str, why: str) -> None:
    run = jobs.start(f"import os, signal\n{end}", time_limit=600)
    found = jobs.ended(run)
    assert (found.state, found.why.startswith(why)) == ("FAILED", True)
    assert [each["restart"] for each in json.loads(run.supervisor_file.read_text())["history"]] == [0]


def test_a_request_to_cancel_goes_before_one_to_requeue(jobs: Jobs) -> None:
    """Whichever comes first; the rank needs its time to save."""
    run = jobs.start(
        """
        import sys, time
        (run_dir / "up").write_text("up")
        while not stop(): time.sleep(0.02)
        (run_dir / "asked").write_text(stop())
        while "received SIGTERM" not in (run_dir / "logs" / "supervisor.log").read_text(): time.sleep(0.02)
        sys.exit(75)
        """
    )
    jobs.file(run, "up")
    os.kill(jobs.supervisor(run).pid, signal.SIGUSR2)
    assert jobs.file(run, "asked") == "SIGUSR2"
    jobs.until(lambda: of([run])[0].why, lambda why: why == "stopping to be requeued")
    found = cancel(run, runs_dir=run.path.parent)
    assert (found.state, found.why.endswith("stopped by SIGTERM with a checkpoint")) == ("CANCELLED", True)


def test_a_run_follows_another_over_its_restarts(jobs: Jobs) -> None:
    first = jobs.start(in_turns(2))
    second = jobs.start("", after=str(first.path))
    jobs.until(lambda: of([second])[0].why, lambda why: why == f"waits for {first.id}, which is RUNNING")
    jobs.until(lambda: first.log_file(1, 0).exists() and first.log_file(1, 0).read_text(), bool)
    requeue(first, runs_dir=first.path.parent)

    assert [jobs.ended(run).state for run in (first, second)] == ["COMPLETED"] * 2
    ended, began = (read_json(run.supervisor_file)[key] for run, key in ((first, "ended"), (second, "started")))  # type: ignore[index]
    assert ended <= began


def test_a_run_whose_predecessor_does_not_complete_never_starts(jobs: Jobs) -> None:
    first = jobs.start(UNTIL_STOPPED)
    second = jobs.start(UNTIL_STOPPED, after=str(first.path))
    third = jobs.start(UNTIL_STOPPED, after=str(second.path))
    assert cancel(first, runs_dir=first.path.parent).state == "CANCELLED"

    for before, run in ((first, second), (second, third)):
        found = jobs.ended(run)
        assert (found.state, found.why) == ("CANCELLED", f"{before.id}, which it was to follow, is CANCELLED")
        assert not (run.path / "up0").exists()
