"""First come, first served, among those that want the same; what a dead job held is free."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from segctl.errors import LaunchError
from segctl.launch.local.queue import Decision, Standing, Wish, decide, enter


def cpu(slots: int) -> Wish:
    return Wish((), slots, "me")


def gpus(count: int, *among: str) -> Wish:
    return Wish(among, count, "me")


def other(number: int, *, among: str = "", holds: str = "", group: str = "", at_once: int = 0) -> Standing:
    return Standing(number, frozenset(among.split()), tuple(holds.split()), f"job{number}", group, at_once)


@pytest.mark.parametrize(
    ("wish", "others", "expected"),
    [
        (cpu(1), [], Decision(True, ("cpu",))),
        (cpu(2), [other(1, holds="cpu")], Decision(True, ("cpu",))),
        (cpu(1), [other(1, among="A", holds="A")], Decision(True, ("cpu",))),
        (cpu(2), [other(9)], Decision(True, ("cpu",))),
        (gpus(1, "A", "B"), [other(1, among="A B", holds="A")], Decision(True, ("B",))),
        (gpus(2, "C", "A", "B"), [other(1, among="A", holds="A")], Decision(True, ("C", "B"))),
        (gpus(1, "A"), [other(1, among="B")], Decision(True, ("A",))),
        (gpus(1, "A"), [other(1), other(2, holds="cpu")], Decision(True, ("A",))),
    ],
)
def test_a_job_starts(wish: Wish, others: list[Standing], expected: Decision) -> None:
    assert decide(wish, 5, others) == expected


@pytest.mark.parametrize(
    ("wish", "others", "reason"),
    [
        (cpu(1), [other(1, holds="cpu")], "waits for one of 1 CPU slot ($SEGCTL_CPU_SLOTS), used by job1"),
        (
            cpu(2),
            [other(1, holds="cpu"), other(4)],
            "waits for one of 2 CPU slots ($SEGCTL_CPU_SLOTS), used by job1; after job4",
        ),
        (gpus(1, "A"), [other(1, among="A", holds="A")], "waits for 1 GPU: 0 of 1 free, used by job1"),
        # A job that wants both GPUs came first: taking the free one now could keep it waiting for ever.
        (
            gpus(1, "A", "B"),
            [other(1, among="A B", holds="A"), other(2, among="A B")],
            "waits for 1 GPU: 1 of 2 free, used by job1; after job2",
        ),
    ],
)
def test_a_job_waits_and_says_for_what(wish: Wish, others: list[Standing], reason: str) -> None:
    assert decide(wish, 5, others) == Decision(False, reason=reason)


def of_sweep(at_once: int) -> Wish:
    return Wish((), 8, "me", "sweep", at_once)


def test_no_more_of_a_group_run_at_once_than_may() -> None:
    one, two = other(1, holds="cpu", group="sweep"), other(2, holds="cpu", group="sweep")
    strangers = [other(3, holds="cpu", group="other"), other(4, holds="cpu")]
    assert decide(of_sweep(2), 5, [one, *strangers]).start
    assert decide(of_sweep(2), 5, [one, two]) == Decision(False, reason="waits: 2 of sweep run already (--max-running)")
    assert decide(Wish((), 8, "me", "sweep"), 5, [one, two]).start, "no limit of its own"


def test_a_job_that_its_groups_limit_keeps_back_lets_others_pass() -> None:
    running, waiting = other(1, holds="cpu", group="sweep"), other(2, group="sweep", at_once=1)
    assert decide(cpu(2), 5, [running, waiting]).start
    assert not decide(cpu(2), 5, [other(1, holds="cpu"), waiting]).start


def test_what_a_killed_process_held_is_free() -> None:
    code = (
        "import time; from segctl.launch.local.queue import Wish, enter\n"
        "ticket = enter(Wish((), 1, 'first')); print(ticket.try_start().start, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        mine = enter(Wish((), 1, "second"))
        waiting = mine.try_start()
        assert (waiting.start, "used by first" in waiting.reason) == (False, True)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert mine.try_start().start
    folder = mine.folder
    mine.close()
    assert sorted(path.name for path in folder.iterdir()) == ["lock"], "tickets of the dead are cleared away"


def test_a_place_is_kept_in_order_and_given_back() -> None:
    first, second, third = (enter(Wish((), 1, name)) for name in ("first", "second", "third"))
    assert first.number < second.number < third.number
    assert first.try_start().start
    assert not third.try_start().start
    first.close()
    assert not third.try_start().start, "the second is before it"
    second.close()
    assert third.try_start().start
    third.close()


def test_a_groups_limit_is_seen_by_its_other_jobs() -> None:
    first, second = (enter(Wish((), 9, name, "sweep", 1)) for name in ("first", "second"))
    assert first.try_start().start
    assert not second.try_start().start
    first.close()
    assert second.try_start().start
    second.close()


def test_a_queue_that_cannot_be_used_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    obstacle = tmp_path / "file"
    obstacle.write_text("")
    monkeypatch.setenv("SEGCTL_STATE_DIR", str(obstacle / "below"))
    with pytest.raises(LaunchError, match="SEGCTL_STATE_DIR"):
        enter(Wish((), 1, "me"))


def test_tickets_can_be_read_by_other_users(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        ticket = enter(Wish((), 1, "me"))
    finally:
        os.umask(before)
    assert ticket.path.stat().st_mode & 0o777 == 0o644
    assert (ticket.folder / "lock").stat().st_mode & 0o777 == 0o644
    ticket.close()
