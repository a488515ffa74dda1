"""A run's state from its files and its scheduler's word, one case per row."""

from __future__ import annotations

from typing import Any

import pytest

from segctl.runs.records import Records
from segctl.runs.state import Allocation, Derived, Sight, derive

NOW = 1_000_000.0
ERROR = {"attempt": 1, "rank": 1, "type": "ValueError", "message": "bad", "time": 5.0, "traceback": ""}
BROKEN = {"attempt": 1, "rank": 0, "type": "RuntimeError", "message": "Connection closed by peer", "time": 4.0}


def seen(sight: Sight, **files: Any) -> Derived:
    return derive(Records("r1", attempt={"number": 1, "host": "castle"}, **files), sight, NOW)


def test_running_with_a_heartbeat() -> None:
    found = seen(Sight("RUNNING", "", "process 7"), status={"heartbeat": NOW - 119, "phase": "training"})
    assert (found.state, found.why, found.rests_on) == ("RUNNING", "training", "process 7")


def test_a_living_process_without_a_heartbeat_is_stalled() -> None:
    found = seen(Sight("RUNNING", "", "process 7"), status={"heartbeat": NOW - 180, "phase": "evaluating"})
    assert (found.state, found.why) == ("STALLED", "no sign of life for 3 min while evaluating")
    assert "segctl cancel r1" in found.hint
    assert "process 7" in found.rests_on


def test_starting_may_take_longer_than_a_step() -> None:
    running = Sight("RUNNING", "", "process 7")
    assert seen(running, supervisor={"started": NOW - 290}).state == "RUNNING"
    assert seen(running, supervisor={"started": NOW - 310}).state == "STALLED"


def test_a_request_to_stop_shows_until_it_has_been_met() -> None:
    found = seen(Sight("RUNNING"), cancel={"user": "ada"}, status={"heartbeat": NOW, "phase": "training"})
    assert (found.state, found.why) == ("RUNNING", "stopping: cancelled by ada")


def test_waiting_says_for_what() -> None:
    assert seen(Sight("PENDING", "waits for 1 GPU", "process 7")).why == "waits for 1 GPU"


def test_failed_names_the_rank_and_the_way_on() -> None:
    found = seen(Sight("FAILED", "", "supervisor.json"), errors=(BROKEN, ERROR), status={"checkpoint_step": 40})
    assert found.why == "ValueError: bad (rank 1)"
    assert "segctl logs r1 --rank 1" in found.hint
    assert "segctl resume r1' goes on from step 40" in found.hint


def test_failed_without_an_error_record_rests_on_the_exit_codes() -> None:
    deaths = [{"rank": 0, "code": -7, "last_line": "", "out_of_memory": False}]
    found = seen(Sight("FAILED", "", "supervisor.json"), supervisor={"deaths": deaths})
    assert found.why.startswith("rank 0 was killed by SIGBUS")
    assert found.hint == "Make /dev/shm larger, or set train.workers=0. 'segctl resume r1' starts it again."
    assert found.rests_on == "exit codes"


def test_failed_before_any_rank() -> None:
    assert seen(Sight("FAILED", "no fork", "supervisor.json")).why == "no fork"


@pytest.mark.parametrize(
    ("files", "state"),
    [
        ({}, "LOST"),
        ({"status": {"phase": "training", "heartbeat": NOW - 9}}, "LOST"),
        ({"status": {"phase": "completed"}}, "COMPLETED"),
        ({"cancel": {"user": "ada"}}, "CANCELLED"),
        ({"errors": (ERROR,)}, "FAILED"),
        ({"errors": (BROKEN,)}, "LOST"),
    ],
)
def test_a_job_that_left_no_word(files: dict[str, Any], state: str) -> None:
    assert seen(Sight("LOST", "its supervisor is gone", "process 7 is gone"), **files).state == state


def test_lost_says_how_to_go_on() -> None:
    found = seen(Sight("LOST", "its supervisor is gone", "process 7 is gone"))
    assert found.why == "its supervisor is gone"
    assert "'segctl resume r1' starts it again." in found.hint


def test_cancelled_says_who_and_how() -> None:
    found = seen(
        Sight("CANCELLED", "stopped by SIGTERM with a checkpoint", "supervisor.json"),
        cancel={"user": "ada"},
        status={"checkpoint_step": 7},
    )
    assert found.why == "cancelled by ada; stopped by SIGTERM with a checkpoint"
    assert found.hint == "'segctl resume r1' goes on from step 7."


def test_what_cannot_be_seen_is_unknown_unless_it_was_heard_a_moment_ago() -> None:
    sight = Sight("UNKNOWN", "it runs on castle, this is tower", "process 7 on castle")
    silent = seen(sight, status={"heartbeat": NOW - 500, "phase": "training"})
    assert (silent.state, silent.hint) == ("UNKNOWN", "Run 'segctl status' on castle.")
    heard = seen(sight, status={"heartbeat": NOW - 30, "phase": "training"})
    assert (heard.state, heard.rests_on) == ("RUNNING", "the heartbeat in status.json")


def test_a_scheduler_that_does_not_answer_is_not_replaced_by_a_heartbeat() -> None:
    sight = Sight("UNKNOWN", "slurmctld does not answer", "squeue", "Look again.")
    on_slurm = {"submission": {"backend": "slurm"}, "status": {"heartbeat": NOW - 3, "phase": "training"}}
    assert seen(sight, **on_slurm) == Derived("UNKNOWN", "slurmctld does not answer", "Look again.", "squeue")


def test_a_start_that_has_not_spoken_yet_is_judged_by_when_the_scheduler_began_it() -> None:
    files = {"supervisor": {"restart": 0, "started": NOW - 5000}, "status": {"heartbeat": NOW - 4000}}
    new = Sight("RUNNING", "", "squeue", allocation=Allocation(started=NOW - 290, restart=1))
    assert (seen(new, **files).state, seen(new, **files).why) == ("RUNNING", "starting")
    silent = Sight("RUNNING", "", "squeue", allocation=Allocation(started=NOW - 310, restart=1))
    assert seen(silent, **files).state == "STALLED"
    same = Sight("RUNNING", "", "squeue", allocation=Allocation(started=NOW - 5001, restart=0))
    assert "no sign of life for 67 min" in seen(same, **files).why


def test_what_the_scheduler_gave_goes_with_the_state() -> None:
    given = Allocation(nodes="n[0-2]", queue_reason="Resources", limit=60.0)
    assert seen(Sight("PENDING", "waits", "squeue", allocation=given)).allocation == given


def test_ranks_that_are_done_do_not_make_a_job_done() -> None:
    found = seen(Sight("RUNNING", "", "squeue"), status={"heartbeat": NOW - 1, "phase": "stopped"})
    assert (found.state, found.why) == ("RUNNING", "ending")


@pytest.mark.parametrize("state", ["REQUEUED", "TIMEOUT", "COMPLETED"])
def test_other_words_of_a_scheduler_stand(state: Any) -> None:
    assert seen(Sight(state, "", "sacct")) == Derived(state, "", seen(Sight(state, "", "sacct")).hint, "sacct")
