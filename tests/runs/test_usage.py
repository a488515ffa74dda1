"""GPU time, useful and lost, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from segctl.runs.records import Records
from segctl.runs.usage import Start, Usage, lost_seconds, used, with_marks

HOUR = 3600.0
FOUR_GPUS = {"number": 1, "plan": {"nodes": 2, "gpus_per_node": 2}}


def start(**said: Any) -> Start:
    return Start(
        **{"restart": 0, "started": 0.0, "ended": 100.0, "began": 10.0, "saved": 70.0, "interrupted": True, **said}
    )


@pytest.mark.parametrize(
    ("one", "lost"),
    [
        (start(), 30.0),  # what was done after the last checkpoint
        (start(saved=None), 100.0),  # all of it
        (start(restart=1), 40.0),  # and its own beginning
        (start(restart=1, began=None, saved=None), 100.0),
        (start(interrupted=False), 0.0),
        (start(interrupted=False, restart=2), 10.0),
        (start(interrupted=False, restart=2, began=None), 0.0),  # it is still starting, or says nothing
        (start(saved=100.5), 0.0),  # clocks of two machines
    ],
)
def test_what_one_start_loses(one: Start, lost: float) -> None:
    assert lost_seconds(one) == lost


def history(*entries: dict[str, Any], **said: Any) -> dict[str, Any]:
    return {"attempt": 1, "restart": len(entries) - 1, "history": list(entries), **said}


def test_over_all_starts_and_gpus() -> None:
    first = {"restart": 0, "started": 0.0, "ended": 2 * HOUR, "began": 60.0, "saved": 1.75 * HOUR}
    second = {"restart": 1, "started": 3 * HOUR, "ended": None}
    status = {"began": 3 * HOUR + 360, "checkpoint_time": 3.5 * HOUR, "heartbeat": 4 * HOUR}
    records = Records("r1", attempt=FOUR_GPUS, supervisor=history(first, second), status=status)

    # 2 h and 1 h on four GPUs; a quarter of an hour was not saved, and a tenth went into starting again.
    assert used(records, "RUNNING", 4 * HOUR) == Usage(4 * 2.65 * HOUR, pytest.approx(4 * 0.35 * HOUR))


def test_a_start_that_left_no_end_ended_when_it_was_last_heard_of() -> None:
    killed = {"restart": 0, "started": 0.0, "ended": None, "began": 10.0, "saved": 500.0, "heard": 600.0}
    after = {"restart": 1, "started": 900.0, "ended": 1000.0}
    records = Records("r1", attempt=FOUR_GPUS, supervisor=history(killed, after), status={"began": 920.0})
    assert used(records, "COMPLETED", 5000.0) == Usage(4 * (500.0 + 80.0), 4 * (100.0 + 20.0))


def test_a_run_that_failed_has_lost_what_it_had_not_saved() -> None:
    only = {"restart": 0, "started": 0.0, "ended": 1000.0}
    status = {"began": 10.0, "checkpoint_time": 800.0, "heartbeat": 990.0}
    records = Records("r1", attempt=FOUR_GPUS, supervisor=history(only), status=status)
    assert used(records, "FAILED", 9e9) == Usage(3200.0, 800.0)
    assert used(records, "COMPLETED", 9e9) == Usage(4000.0, 0.0)


def test_without_gpus_or_starts_there_is_nothing_to_say() -> None:
    on_cpu = {"number": 1, "plan": {"nodes": 2, "gpus_per_node": 0}}
    only = {"restart": 0, "started": 0.0, "ended": 1000.0}
    assert used(Records("r1", attempt=on_cpu, supervisor=history(only)), "COMPLETED", 0.0) is None
    assert used(Records("r1", attempt=FOUR_GPUS), "PENDING", 0.0) is None
    damaged = {"history": [3, {"restart": 0}]}
    assert used(Records("r1", attempt=FOUR_GPUS, supervisor=damaged), "COMPLETED", 0.0) is None


def test_what_is_kept_of_the_words_of_each_start() -> None:
    status = {"attempt": 2, "restart": 1, "began": 5.0, "checkpoint_time": 9, "heartbeat": 10.5, "step": 3}
    starts = [{"restart": 0, "started": 1.0}, {"restart": 1, "started": 4.0}]
    kept = [starts[0], {"restart": 1, "started": 4.0, "began": 5.0, "saved": 9.0, "heard": 10.5}]
    assert with_marks(starts, status, 2) == kept
    assert with_marks(starts, status, 3) == with_marks(starts, None, 2) == starts
