"""How a job ended, from how its ranks did."""

from __future__ import annotations

import pytest

from segctl.launch.outcome import Ended, Outcome, judge

DONE = Ended(0, 0, finished=True)


@pytest.mark.parametrize(
    ("ranks", "requests", "state"),
    [
        ([DONE, Ended(1, 0, finished=True)], [], "COMPLETED"),
        # The work was done; what happens while Python is torn down changes nothing.
        ([DONE, Ended(1, -9, finished=True, killed=True)], [], "COMPLETED"),
        ([DONE, Ended(1, 0, finished=True)], ["SIGTERM"], "COMPLETED"),
        # os._exit(0) in the middle of the work looks like success to a scheduler.
        ([DONE, Ended(1, 0)], [], "FAILED"),
        ([Ended(0, 1, error="cause"), Ended(1, 1, error="consequence", asked=True)], [], "FAILED"),
        ([Ended(0, 1, error="cause"), Ended(1, -9, asked=True, killed=True)], [], "FAILED"),
        # It hung after it had failed.
        ([Ended(0, -9, error="cause", killed=True)], [], "FAILED"),
        ([Ended(0, -11), Ended(1, -9, asked=True, killed=True)], [], "FAILED"),
        ([Ended(0, 75, asked=True), Ended(1, 75, asked=True)], ["SIGTERM"], "CANCELLED"),
        ([Ended(0, 75), Ended(1, 75)], [], "CANCELLED"),
        # Asked before Python had got as far as listening.
        ([Ended(0, -15, asked=True)], ["SIGTERM"], "CANCELLED"),
        ([Ended(0, -9, asked=True, killed=True)], ["SIGTERM"], "CANCELLED"),
        # One rank was gone first, and the other's collective broke.
        ([Ended(0, 75, asked=True), Ended(1, 1, error="consequence", asked=True)], ["SIGTERM"], "CANCELLED"),
        # Saving the checkpoint failed: that is no ordinary end.
        ([Ended(0, 1, error="cause", asked=True), Ended(1, 75, asked=True)], ["SIGTERM"], "FAILED"),
        # While it was stopping the kernel took it.
        ([Ended(0, -9, asked=True)], ["SIGTERM"], "FAILED"),
    ],
)
def test_states(ranks: list[Ended], requests: list[str], state: str) -> None:
    assert judge(ranks, requests=requests, grace=60).state == state


@pytest.mark.parametrize(
    ("ranks", "requests", "reason"),
    [
        ([Ended(0, 75, asked=True)], ["SIGTERM", "SIGTERM"], "stopped by SIGTERM with a checkpoint"),
        ([Ended(0, 75)], [], "stopped by a signal with a checkpoint"),
        ([Ended(0, -15, asked=True)], ["SIGTERM"], "stopped by SIGTERM before there was anything to save"),
        ([Ended(0, -9, asked=True, killed=True)], ["SIGTERM"], "killed: it did not stop within 60 s"),
        ([Ended(0, 75, asked=True), Ended(1, -9, killed=True)], ["SIGTERM"], "killed: rank 1 did not stop within 60 s"),
    ],
)
def test_reasons(ranks: list[Ended], requests: list[str], reason: str) -> None:
    assert judge(ranks, requests=requests, grace=60) == Outcome("CANCELLED", reason)


STOPPED = Ended(0, 75, asked=True)
KILLED = Ended(1, -9, asked=True, killed=True)


@pytest.mark.parametrize(
    ("ranks", "cancels", "out_of_time", "expected"),
    [
        ([STOPPED, Ended(1, 75, asked=True)], [], False, Outcome("REQUEUED", "after its time limit")),
        # Before Python had got as far as listening; there is nothing to save.
        ([Ended(0, -12, asked=True)], [], False, Outcome("REQUEUED", "after its time limit")),
        (
            [STOPPED, Ended(1, 1, error="consequence", asked=True)],
            [],
            False,
            Outcome("REQUEUED", "after its time limit"),
        ),
        # Somebody asked for it, so it comes back although not all of it could be saved.
        ([STOPPED, KILLED], [], False, Outcome("REQUEUED", "after its time limit")),
        (
            [STOPPED, KILLED],
            [],
            True,
            Outcome("TIMEOUT", "killed: rank 1 had not stopped when the time limit was reached"),
        ),
        (
            [STOPPED, Ended(1, 75, asked=True)],
            ["SIGTERM"],
            False,
            Outcome("CANCELLED", "stopped by SIGTERM with a checkpoint"),
        ),
        ([DONE, Ended(1, 0, finished=True)], [], True, Outcome("COMPLETED")),
        ([STOPPED, Ended(1, 1, error="cause", asked=True)], [], False, Outcome("FAILED")),
    ],
)
def test_interruptions(ranks: list[Ended], cancels: list[str], out_of_time: bool, expected: Outcome) -> None:
    found = judge(ranks, requests=cancels, grace=60, interruption="after its time limit", out_of_time=out_of_time)
    assert found == expected
