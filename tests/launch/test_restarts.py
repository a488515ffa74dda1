"""When a job that was interrupted goes on by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segctl.launch.outcome import Outcome
from segctl.launch.plan import LaunchPlan
from segctl.launch.restarts import AT_LIMIT, AT_PREEMPTION, BY_REQUEST, newest_step, refusal, settle
from segctl.runs.run import Run


def plan(**limits: Any) -> LaunchPlan:
    return LaunchPlan("local", 1, 1, "cpu", 0, 1, **limits)


def start(restart: int, reason: str, from_step: int) -> dict[str, Any]:
    return {"restart": restart, "reason": reason, "from_step": from_step}


@pytest.mark.parametrize(
    ("limits", "history", "newest", "refused"),
    [
        ({}, [start(0, AT_LIMIT, 0)], 10, ""),
        ({}, [start(0, BY_REQUEST, 0)], 0, ""),
        ({"requeue": False}, [start(0, AT_LIMIT, 0)], 10, "launch.requeue is false"),
        ({"max_restarts": 0}, [start(0, AT_LIMIT, 0)], 10, "launch.max_restarts (0) is used up"),
        ({"max_restarts": 2}, [start(1, AT_LIMIT, 10)], 20, ""),
        ({"max_restarts": 2}, [start(2, AT_LIMIT, 20)], 30, "launch.max_restarts (2) is used up"),
        # Once may be a slow disk; a second time it would never end.
        ({}, [start(0, AT_LIMIT, 0)], 0, ""),
        ({}, [start(0, AT_LIMIT, 0), start(1, AT_LIMIT, 0)], 0, "twice in a row it came to no new checkpoint by then"),
        ({}, [start(0, AT_LIMIT, 0), start(1, AT_LIMIT, 0)], 1, ""),
        ({}, [start(0, AT_LIMIT, 0), start(1, AT_LIMIT, 7)], 7, ""),
        ({}, [start(3, AT_LIMIT, 7), start(4, AT_LIMIT, 7)], 7, "twice in a row it came to no new checkpoint by then"),
        # That others went first says nothing about the job.
        ({}, [start(0, AT_PREEMPTION, 0), start(1, AT_PREEMPTION, 0)], 0, ""),
        # A lost connection may be the network's, or the job's own doing, which comes again.
        ({}, [start(0, "after rank 2 vanished", 0)], 0, ""),
        ({}, [start(0, "after rank 2 vanished", 0), start(1, "after rank 3 vanished", 5)], 5, ""),
        ({}, [start(0, "after rank 2 vanished", 0), start(1, "after rank 3 vanished", 0)], 0, "twice in a row"),
        ({}, [start(0, AT_LIMIT, 5), start(1, BY_REQUEST, 5)], 5, ""),
    ],
)
def test_what_an_interrupted_job_may_do(
    limits: dict[str, Any], history: list[dict[str, Any]], newest: int, refused: str
) -> None:
    why = refusal(plan(**limits), history, newest)
    assert why.startswith(refused)
    assert bool(why) == bool(refused)


@pytest.mark.parametrize(
    ("outcome", "requeue", "expected"),
    [
        (Outcome("REQUEUED", AT_LIMIT), True, Outcome("REQUEUED", AT_LIMIT)),
        (Outcome("COMPLETED"), False, Outcome("COMPLETED")),
        (
            Outcome("REQUEUED", AT_LIMIT),
            False,
            Outcome("TIMEOUT", "stopped after its time limit; it does not go on by itself: launch.requeue is false"),
        ),
        (
            Outcome("REQUEUED", BY_REQUEST),
            False,
            Outcome(
                "CANCELLED", "stopped after a request to requeue; it does not go on by itself: launch.requeue is false"
            ),
        ),
    ],
)
def test_what_becomes_of_it(outcome: Outcome, requeue: bool, expected: Outcome) -> None:
    assert settle(outcome, plan(requeue=requeue), [start(0, outcome.reason, 0)], 3) == expected


def test_the_newest_checkpoint_is_told_by_its_name(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert newest_step(run) == 0
    run.checkpoints.mkdir()
    for name in ("step-00000900.pt", "step-00001200.pt", "best.pt", "epoch-9999.pt", ".tmp-step-00002000.pt-x"):
        (run.checkpoints / name).write_text("")
    assert newest_step(run) == 1200
