"""Which of the failing ranks says why."""

from __future__ import annotations

from typing import Any

import pytest

from segctl.runs.blame import Death, blame

CLOSED = "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:44321"
TRACEBACK = """Traceback (most recent call last):
  File "/home/me/segctl/jobs/segctl_jobs/train.py", line 88, in step
    loss = self.loss(outputs, target)
  File "/venv/lib/python3.11/site-packages/torch/nn/modules/module.py", line 1553, in _call_impl
    return forward_call(*args)
ValueError: target has 13 classes
"""


def error(rank: int, kind: str, message: str, time: float, **more: Any) -> dict[str, Any]:
    return {"attempt": 1, "rank": rank, "type": kind, "message": message, "time": time, "traceback": "", **more}


def test_a_real_exception_goes_before_the_broken_connections_it_caused() -> None:
    errors = [
        error(0, "RuntimeError", CLOSED, 100.0),
        error(1, "ValueError", "target has 13 classes", 100.4, traceback=TRACEBACK),
        error(2, "DistBackendError", "NCCL communicator was aborted", 99.0),
    ]
    found = blame(errors, [Death(0, 1), Death(1, 1), Death(2, 1)])
    assert found is not None
    assert (found.rank, found.rests_on) == (1, "errors/rank1.json")
    # The line of ours, not torch's.
    assert found.why == "ValueError: target has 13 classes (rank 1, train.py:88 in step)"


def test_the_earliest_of_several_causes() -> None:
    errors = [error(0, "ValueError", "late", 20.0), error(3, "KeyError", "'early'", 10.0)]
    found = blame(errors, [])
    assert found is not None
    assert found.why == "KeyError: 'early' (rank 3)"


def test_a_killed_rank_goes_before_broken_connections() -> None:
    found = blame([error(0, "RuntimeError", CLOSED, 1.0)], [Death(0, 1), Death(1, -9, out_of_memory=True)])
    assert found is not None
    assert found.why == "rank 1 was killed by SIGKILL: the memory of the machine had run out"
    assert "--batch-size" in found.hint


def test_a_kill_by_hand_is_not_taken_for_want_of_memory() -> None:
    found = blame([], [Death(1, -9, out_of_memory=False)])
    assert found is not None
    assert (
        found.why
        == "rank 1 was killed by SIGKILL: by hand or by a watchdog; the kernel's out-of-memory killer did not act"
    )


def test_with_broken_connections_alone_one_of_them_has_to_do() -> None:
    found = blame([error(1, "RuntimeError", CLOSED, 2.0), error(0, "RuntimeError", CLOSED, 1.0)], [])
    assert found is not None
    assert found.rank == 0


def test_a_users_mistake_is_told_without_names_of_exceptions() -> None:
    mistake = error(
        0, "DataError", "Mask 0001.png has the value 42.", 1.0, hint="Classes are 0 to 11.", user_error=True
    )
    found = blame([mistake], [])
    assert found is not None
    assert (found.why, found.hint) == ("Mask 0001.png has the value 42.", "Classes are 0 to 11.")


def test_a_rank_that_only_waited_for_another_is_not_the_cause() -> None:
    waited = error(1, "LaunchError", "Rank 1 waited 300 s for rank 0, which never published x.", 1.0, user_error=True)
    found = blame([waited, error(0, "OSError", "no space left", 5.0)], [])
    assert found is not None
    assert found.rank == 0


@pytest.mark.parametrize(
    ("death", "why"),
    [
        (Death(2, 1, "ModuleNotFoundError: No module named 'x'"), "rank 2 ended with exit code 1: ModuleNotFoundError"),
        (Death(2, 1, disk_full=True), "rank 2 ended with exit code 1; the disk of the run is full"),
        (Death(2, 0), "rank 2 ended without finishing its work, though with exit code 0"),
        (Death(2, -7), "rank 2 was killed by SIGBUS: most often because shared memory"),
        (Death(2, -11), "rank 2 was killed by SIGSEGV"),
        (Death(2, -64), "rank 2 was killed by "),
    ],
)
def test_ranks_that_left_no_word(death: Death, why: str) -> None:
    found = blame([], [death])
    assert found is not None
    assert found.why.startswith(why)


def test_a_long_message_becomes_one_line() -> None:
    found = blame([error(0, "ValueError", "first\n" + "x" * 10_000, 1.0)], [])
    assert found is not None
    assert found.why == "ValueError: first (rank 0)"


def test_nobody_to_blame() -> None:
    assert blame([], []) is None
