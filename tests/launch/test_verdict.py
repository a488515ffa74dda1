"""What becomes of a SLURM job, from how its ranks ended."""

from __future__ import annotations

import pytest

from segctl.launch.outcome import Ended
from segctl.launch.slurm.verdict import Facts, decide

DONE = [Ended(0, 0, finished=True), Ended(1, 0, finished=True)]
SAVED = [Ended(0, 75, asked=True), Ended(1, 75, asked=True)]
RAISED = [Ended(1, 1, error="cause"), Ended(0, 1, error="consequence")]
BROKEN_MACHINE = [Ended(1, 1, error="machine"), Ended(0, -15, killed=True)]
KILLED = [Ended(1, -9), Ended(0, -15, killed=True)]
BROKEN_CONNECTIONS = [Ended(0, 1, error="consequence")]


@pytest.mark.parametrize(
    ("ranks", "more", "state"),
    [
        (DONE, {}, "COMPLETED"),
        # The work was done before SLURM's word arrived.
        (DONE, {"told_to_end": True}, "COMPLETED"),
        (RAISED, {}, "FAILED"),
        # A data worker that SLURM ended makes its rank raise.
        (RAISED, {"told_to_end": True}, "STOPPED"),
        (KILLED, {}, "FAILED"),
        (BROKEN_MACHINE, {}, "REQUEUE"),
        (BROKEN_MACHINE, {"cancelled": True}, "CANCELLED"),
        ([Ended(0, 1, error="cause"), *BROKEN_MACHINE], {}, "FAILED"),
        # A rank that leaves with exit code 0 and no word has not done its work.
        ([Ended(0, 0), Ended(1, 0, finished=True)], {}, "FAILED"),
        (SAVED, {"cancelled": True}, "CANCELLED"),
        (SAVED, {"interruption": "after its time limit"}, "REQUEUE"),
        # Preempted without the user's signal: only the ranks have heard of it.
        (SAVED, {}, "REQUEUE"),
        # scancel, scontrol requeue, the time limit itself: SLURM knows what comes next.
        (SAVED, {"told_to_end": True}, "STOPPED"),
        ([], {"told_to_end": True}, "STOPPED"),
        # A node is gone: its ranks say nothing, the others lost their connections.
        (BROKEN_CONNECTIONS, {}, "REQUEUE"),
        ([], {}, "REQUEUE"),
        # Asked before Python had got as far as listening.
        ([Ended(0, -12, asked=True), Ended(1, -12, asked=True)], {"interruption": "after its time limit"}, "REQUEUE"),
        ([], {"cancelled": True}, "CANCELLED"),
        # The checkpoint could not be written.
        ([Ended(0, 1, error="cause", asked=True), Ended(1, 75, asked=True)], {"cancelled": True}, "FAILED"),
    ],
)
def test_verdicts(ranks: list[Ended], more: dict[str, bool | str], state: str) -> None:
    assert decide(Facts(ranks, 2, **more)).state == state  # type: ignore[arg-type]


def test_the_reason_of_a_requeue_is_said() -> None:
    assert decide(Facts(SAVED, 2, interruption="after its preemption")).reason == "after its preemption"
    assert "rank 1" in decide(Facts(BROKEN_MACHINE, 2)).reason
    assert "rank 1" in decide(Facts(BROKEN_CONNECTIONS, 2)).reason
