"""What a run of `segctl drill` does beside training: it waits for what befalls it, or dies inside a save.

Its orders stand in run.json under ``drill``. No other run has any, and no other run comes by here.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from segctl.plugin import SegmentationDataset
from segctl.runs import attempt
from segctl.runs.attempt import Attempt
from segctl.runs.files import read_json, write_json
from segctl.runs.run import Run
from segctl_jobs import watchdog
from segctl_jobs.data import Batch, Some
from segctl_jobs.drill.hidden_state import changed, kept
from segctl_jobs.engine import Engine, Progress, Stop

log = logging.getLogger(__name__)

HOLD_SECONDS = 600.0  # should nothing befall the run, because the drill is gone, it goes on after these
LOOK_EVERY = 0.05


@dataclass(frozen=True)
class Orders:
    """What this start of a run is to do.

    Attributes:
        run: The run.
        eval_samples: With how many samples it is evaluated at the end.
        hold_after: Step after which it waits to be stopped.
        die_in_save: Step whose checkpoint is written but never gets its name: rank 0 kills itself in between.
        watch: Whether to write down what model, loss and data set keep from step to step without saving it.
    """

    run: Run
    eval_samples: int
    hold_after: int | None = None
    die_in_save: int | None = None
    watch: bool = False

    def held_out(self, dataset: SegmentationDataset) -> SegmentationDataset:
        """The part of the evaluation split that is evaluated."""
        return Some(dataset, self.eval_samples)

    def before_checkpoint(self, otherwise: Callable[[], None]) -> Callable[[], None]:
        """What is called when a checkpoint is complete and has only its temporary name."""

        def die_or_go_on() -> None:
            written = f".tmp-step-{self.die_in_save or 0:08d}.pt-*"
            if self.die_in_save is not None and any(self.run.checkpoints.glob(written)):
                os.kill(os.getpid(), signal.SIGKILL)
            otherwise()

        return die_or_go_on

    def batches(
        self,
        batches: Iterable[Batch],
        engine: Engine,
        dataset: SegmentationDataset,
        progress: Progress,
        stop: Stop,
    ) -> Iterator[Batch]:
        """The same batches; between two steps the orders are carried out."""
        things = {"model": engine.model, "loss": engine.loss, "data set": dataset}
        first: dict[str, Any] = {}
        for batch in batches:
            if progress.step == self.hold_after:
                _hold(progress.step, stop)
            if self.watch and progress.step == 1:  # what is set up in the first step is no memory of earlier ones
                first = kept(things)
            yield batch
        if self.watch and engine.world.is_main:
            write_json(self.run.path / "drill.json", {"changed": changed(first, kept(things))})


def orders(run: Run) -> Orders | None:
    """The orders of this start of `run`; None for every run that is not a drill's."""
    given = (read_json(run.run_file) or {}).get("drill")
    if given is None:
        return None
    if attempt.this() != Attempt(1, 0):  # it has befallen the run: now it is to come to its end
        return Orders(run, given["eval_samples"])
    return Orders(run, **given)


def _hold(step: int, stop: Stop) -> None:
    log.info("waiting after step %d for what is to befall this run", step)
    deadline = time.monotonic() + HOLD_SECONDS
    while stop() is None and time.monotonic() < deadline:
        watchdog.beat()
        time.sleep(LOOK_EVERY)
