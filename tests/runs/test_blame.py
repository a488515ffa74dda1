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


def test_rank_host_and_place_are_named() -> None:
    found = blame([error(2, "RuntimeError", "boom", 1.0, host="n1", traceback=TRACEBACK)], [])
    assert found is not None
    assert found.why == "RuntimeError: boom (rank 2 on n1, train.py:88 in step)"
    assert (found.rank, found.host, found.fault) == (2, "n1", "person")
    killed = blame([], [Death(3, -9, host="n2")])
    assert killed is not None
    assert killed.why.startswith("rank 3 on n2 was killed by SIGKILL")


def test_a_plugins_line_goes_before_torchs_wherever_it_is_installed() -> None:
    site = "/venv/lib/python3.11/site-packages"
    frames = [f"{site}/segctl_jobs/train.py", f"{site}/my_net/net.py", f"{site}/torch/nn/functional.py"]
    traceback = "".join(f'  File "{file}", line 7, in f\n' for file in [*frames, "/usr/lib/python3.11/queue.py"])
    found = blame([error(0, "ValueError", "no", 1.0, traceback=traceback)], [])
    assert found is not None
    assert found.why == "ValueError: no (rank 0, net.py:7 in f)"


def hang(rank: int, where: str, *, waiting: bool, since: float = 10.0, size: int = 4) -> dict[str, Any]:
    message = f"no progress for 900 s while training, in {where}"
    more = {"waiting": waiting, "since": since, "world_size": size, "hint": "See stacks/.", "host": "n1"}
    return error(rank, "HangError", message, 910.0 + rank, **more)


ALL_REDUCE = "all_reduce (distributed_c10d.py:2937), called from sum (distributed.py:52)"


def test_of_ranks_that_hang_the_one_that_waits_for_nobody_is_the_cause() -> None:
    records = [hang(rank, ALL_REDUCE, waiting=True, since=9.0) for rank in (0, 1, 3)]
    found = blame([*records, hang(2, "forward (net.py:12)", waiting=False)], [])
    assert found is not None
    assert found.why == "no progress for 900 s while training, in forward (net.py:12) (rank 2 on n1)"
    assert (found.rank, found.hint, found.fault) == (2, "See stacks/.", "hang")


def test_else_the_first_to_stand_still() -> None:
    found = blame([hang(rank, ALL_REDUCE, waiting=True, since=20.0 - rank) for rank in range(4)], [])
    assert found is not None
    assert (found.rank, found.fault) == (3, "hang")


def test_or_the_one_that_left_no_word_at_all() -> None:
    records = [hang(rank, ALL_REDUCE, waiting=True) for rank in (0, 1, 3)]
    found = blame(records, [])
    assert found is not None
    assert found.why == "no progress for 900 s while training: the others waited for rank 2, which left no word"
    assert (found.rank, found.fault) == (2, "hang")


def test_a_death_explains_a_hang_and_a_hang_a_broken_connection() -> None:
    waiting = hang(0, ALL_REDUCE, waiting=True, size=2)
    died = blame([waiting], [Death(1, -11, host="n2")])
    assert died is not None
    assert died.rank == 1
    hung = blame([waiting, error(1, "RuntimeError", CLOSED, 1.0)], [])
    assert hung is not None
    assert hung.rank == 0


def test_a_watchdog_that_could_not_write_is_a_hang_too() -> None:
    for death in (Death(1, 124), Death(1, 1, 'File "/runs/train.py", line 12 in <module>')):
        found = blame([hang(0, ALL_REDUCE, waiting=True, size=2)], [death])
        assert found is not None
        assert (found.rank, found.fault) == (1, "hang")
        assert "no progress" in found.why


SYSTEM_ERROR = (
    "NCCL error in: ../torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:1691, unhandled system error (run with "
    "NCCL_DEBUG=INFO for details), NCCL version 2.21.5\nncclSystemError: System call (e.g. socket, malloc) or external "
    "library call failed or device error."
)


def test_where_there_is_nothing_but_nccl_it_says_so_and_where_to_look() -> None:
    found = blame([error(1, "DistBackendError", SYSTEM_ERROR, 2.0, host="n1")], [])
    assert found is not None
    assert found.fault == "nccl"
    assert "unhandled system error" in found.why
    assert found.why.endswith("(rank 1 on n1; no rank says why)")
    assert "NCCL_DEBUG=INFO" in found.hint
    assert "NCCL_SOCKET_IFNAME" in found.hint


def test_a_killed_data_worker_and_a_small_shm_have_their_way_out() -> None:
    killed = blame([error(0, "RuntimeError", "DataLoader worker (pid 7) is killed by signal: Killed. ", 1.0)], [])
    assert killed is not None
    assert (killed.fault, "train.workers" in killed.hint) == ("out_of_memory_host", True)
    message = "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are "
    small = blame([error(0, "RuntimeError", f"{message}out of shared memory.", 1.0)], [])
    assert small is not None
    assert (small.fault, "/dev/shm" in small.hint) == ("out_of_memory_host", True)
