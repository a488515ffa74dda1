"""When things happen in a training, as pure functions of the step; steps count from 1 when done.

Samples come as one endless stream, each epoch a permutation of the data set; step k takes the batch_size samples
after those of step k - 1, across the end of an epoch where the size does not divide. Nothing is dropped, and a data
set may be smaller than a batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from segctl.config.schema import Schedule, Training


@dataclass(frozen=True)
class Timeline:
    """A training of `total` steps of `batch_size` samples on a data set of `length` samples."""

    length: int
    batch_size: int
    total: int
    eval_every: Fraction
    checkpoint_every: int | None
    keep_every: int | None

    @classmethod
    def of(cls, training: Training, length: int) -> Timeline:
        steps = training.steps or math.ceil(
            Fraction(training.epochs).limit_denominator(10**6) * length / training.batch_size
        )
        every = Fraction(training.eval_every).limit_denominator(10**6)
        return cls(length, training.batch_size, max(1, steps), every, training.checkpoint_every, training.keep_every)

    def epoch(self, step: int) -> float:
        """Passes over the data set after `step` steps."""
        return step * self.batch_size / self.length

    def evaluates_at(self, step: int) -> bool:
        return step == self.total or (self.eval_every > 0 and self._crosses(step, self.eval_every))

    def checkpoints_at(self, step: int) -> bool:
        if self.evaluates_at(step) or self.keeps_at(step) is not None:
            return True
        return self.checkpoint_every is not None and step % self.checkpoint_every == 0

    def keeps_at(self, step: int) -> int | None:
        """The epoch under which the checkpoint of this step is kept for good, or None."""
        if self.keep_every is None or not self._crosses(step, Fraction(self.keep_every)):
            return None
        return step * self.batch_size // (self.length * self.keep_every) * self.keep_every

    def _crosses(self, step: int, epochs: Fraction) -> bool:
        """Whether step `step` completes another multiple of `epochs`."""
        return self._multiples(step, epochs) > self._multiples(step - 1, epochs)

    def _multiples(self, step: int, epochs: Fraction) -> int:
        return step * self.batch_size // (self.length * epochs)


def learning_rate_factor(step: int, total: int, schedule: Schedule) -> float:
    """The learning rate of the step after `step` done ones, relative to its peak; positive up to the last step.

    poly: (1 - t)^power (Liu et al. 2015, ParseNet; Chen et al. 2017, DeepLab); cosine: Loshchilov & Hutter 2017,
    without restarts; step: times gamma at each milestone. t runs from 0 after the warm-up towards, never reaching, 1.
    """
    if step < schedule.warmup_steps:
        return schedule.warmup_factor + (1 - schedule.warmup_factor) * step / schedule.warmup_steps
    t = (step - schedule.warmup_steps) / max(1, total - schedule.warmup_steps)
    if schedule.name == "poly":
        factor = (1 - t) ** schedule.power
    elif schedule.name == "cosine":
        factor = (1 + math.cos(math.pi * t)) / 2
    elif schedule.name == "step":
        factor = schedule.gamma ** sum(t >= milestone for milestone in schedule.milestones)
    else:
        factor = 1.0
    return schedule.min_factor + (1 - schedule.min_factor) * factor
