"""When evaluations, checkpoints and learning rates fall due; all values worked out by hand."""

from __future__ import annotations

import math

import pytest

from segctl.config.schema import Schedule, Training
from segctl_jobs.timeline import Timeline, learning_rate_factor


def test_epochs_become_steps_without_dropping_a_sample() -> None:
    # 3 epochs of 10 samples are 30 samples: 8 steps of 4, the last of which reaches into a fourth epoch.
    timeline = Timeline.of(Training(epochs=3, batch_size=4), length=10)
    assert timeline.total == 8
    # Epochs end within steps 3 (12 samples), 5 (20) and 8 (32).
    assert [step for step in range(1, 9) if timeline.evaluates_at(step)] == [3, 5, 8]


def test_steps_beat_epochs_and_a_data_set_may_be_smaller_than_a_batch() -> None:
    timeline = Timeline.of(Training(steps=2, epochs=99, batch_size=16), length=3)
    assert timeline.total == 2
    assert timeline.epoch(2) == pytest.approx(32 / 3)


@pytest.mark.parametrize(("every", "due"), [(2, [5, 8]), (0.5, [2, 3, 4, 5, 7, 8]), (0, [8])])
def test_evaluation_interval(every: float, due: list[int]) -> None:
    # Multiples of half an epoch (5 samples) are first reached at 8, 12, 16, 20, 28, 32 samples: steps 2, 3, 4, 5, 7, 8.
    timeline = Timeline.of(Training(epochs=3, batch_size=4, eval_every=every), length=10)
    assert [step for step in range(1, 9) if timeline.evaluates_at(step)] == due


def test_periodic_checkpoints_are_named_after_their_epoch() -> None:
    timeline = Timeline.of(Training(epochs=6, batch_size=5, keep_every=2, checkpoint_every=3), length=10)
    assert [timeline.keeps_at(step) for step in range(1, 13)] == [None] * 3 + [2] + [None] * 3 + [4] + [None] * 3 + [6]
    assert [step for step in range(1, 13) if timeline.checkpoints_at(step)] == [2, 3, 4, 6, 8, 9, 10, 12]


def test_what_is_kept_for_good_is_saved_whatever_else_is_due() -> None:
    timeline = Timeline.of(Training(epochs=10, batch_size=10, eval_every=0, checkpoint_every=7, keep_every=1), 100)
    kept = [step for step in range(1, 101) if timeline.keeps_at(step) and timeline.checkpoints_at(step)]
    assert kept == list(range(10, 101, 10))


def test_poly() -> None:
    schedule = Schedule(name="poly", power=0.9)
    assert learning_rate_factor(0, 10, schedule) == 1
    assert learning_rate_factor(5, 10, schedule) == pytest.approx(0.5**0.9)
    assert learning_rate_factor(9, 10, schedule) == pytest.approx(0.1**0.9)


def test_cosine_with_floor() -> None:
    schedule = Schedule(name="cosine", min_factor=0.1)
    assert learning_rate_factor(5, 10, schedule) == pytest.approx(0.1 + 0.9 * 0.5)
    assert learning_rate_factor(9, 10, schedule) == pytest.approx(0.1 + 0.9 * (1 + math.cos(0.9 * math.pi)) / 2)


def test_steps_at_milestones() -> None:
    schedule = Schedule(name="step", milestones=(0.5, 0.75), gamma=0.1)
    factors = [learning_rate_factor(step, 8, schedule) for step in range(8)]
    assert factors == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_warm_up_is_linear_and_then_the_schedule_begins() -> None:
    schedule = Schedule(name="poly", power=1, warmup_steps=4, warmup_factor=0.2)
    factors = [learning_rate_factor(step, 8, schedule) for step in range(8)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 0.75, 0.5, 0.25])


@pytest.mark.parametrize("name", ["poly", "cosine", "step", "constant"])
def test_the_last_step_still_learns(name: str) -> None:
    assert learning_rate_factor(99, 100, Schedule(name=name, warmup_steps=10)) > 0
