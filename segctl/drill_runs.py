"""The runs of a drill, and what befalls each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from segctl.errors import RunError, SegctlError
from segctl.launch.lost_node import lose_node
from segctl.launch.restarts import newest_step
from segctl.requeue import requeue
from segctl.runs import metrics
from segctl.runs.records import Records
from segctl.runs.run import Run
from segctl.runs.state import FINAL, Derived
from segctl.submit import resume

FEWEST_STEPS = 6
EVAL_SAMPLES = 8

Script = Iterator[None]


@dataclass(frozen=True)
class Timetable:
    """At which of its steps something befalls a run.

    Attributes:
        steps: All of them, at least `FEWEST_STEPS`.
    """

    steps: int

    @property
    def checkpoint_every(self) -> int:
        return self.steps // 3

    @property
    def hold_after(self) -> int:
        """Beyond the first checkpoint, so that a run which loses its machine has steps to do again."""
        return self.checkpoint_every + max(1, self.checkpoint_every // 2)

    @property
    def die_in_save(self) -> int:
        """The second checkpoint: the run goes on from the first."""
        return 2 * self.checkpoint_every


class DrilledRun:
    """A run of a drill.

    Attributes:
        name: What befalls it.
        run: Itself.
        what: What has befallen it so far, in words.
        problem: Why it did not come to its end as it was to; empty as long as it may.
        refused: Why what was to befall it may not be done here.
        over: Nothing more is to come.
    """

    def __init__(self, name: str, run: Run, script: Callable[[DrilledRun, Timetable], Script], when: Timetable) -> None:
        self.name, self.run = name, run
        self.what = self.problem = self.refused = ""
        self.over = False
        self._records, self._state = Records(run.id), Derived("PENDING")
        self._script = script(self, when)

    def go_on(self, records: Records, state: Derived) -> None:
        """Does what is to be done now that the run looks like this."""
        self._records, self._state = records, state
        try:
            next(self._script)
        except StopIteration:
            self.over = True
        except SegctlError as error:
            self.over, self.problem = True, str(error)

    @property
    def progress(self) -> str:
        """``requeue 6/12``."""
        if self.over or self._state.state != "RUNNING":
            return f"{self.name} {'failed' if self.problem else self._state.state.lower()}"
        status = self._records.status
        return f"{self.name} {status.get('step', 0)}/{status.get('steps', '?')}"

    def left_alone(self, when: Timetable) -> Script:
        yield from self._completes()

    def requeued(self, when: Timetable) -> Script:
        yield from self._waits(when)
        requeue(self.run)
        self.what = f"SIGUSR2 after step {when.hold_after}; it came back by itself"
        yield from self._completes()

    def killed_in_a_save(self, when: Timetable) -> Script:
        yield from self._ends()
        torn = any(self.run.checkpoints.glob(f".tmp-step-{when.die_in_save:08d}.pt-*"))
        if self._state.state != "FAILED" or not torn:
            raise self._otherwise(f"to die in the save of step {when.die_in_save}")
        resume(self.run)
        self.what = f"SIGKILL of rank 0 in the save of step {when.die_in_save}; resumed"
        yield from self._completes()

    def without_its_node(self, when: Timetable) -> Script:
        yield from self._waits(when)
        try:
            how = lose_node(self._records)
        except RunError as error:
            self.refused = str(error)
            return
        yield from self._ends()
        by_itself = self._state.state == "COMPLETED"
        if not by_itself:
            if self._records.backend != "local":  # where nobody starts a job anew
                raise self._otherwise("to come back by itself")
            resume(self.run)
        self.what = f"{how}, after step {when.hold_after}; {'it came back by itself' if by_itself else 'resumed'}"
        yield from self._completes()

    def _waits(self, when: Timetable) -> Script:
        """Until the run has done its step and waits for what befalls it, with its first checkpoint on disk."""
        while True:
            if self._state.state in FINAL:
                raise self._otherwise(f"to wait after step {when.hold_after}")
            if self._state.state in ("RUNNING", "STALLED") and newest_step(self.run) >= when.checkpoint_every:
                done = [record["step"] for record in metrics.read(self.run) if record.get("event") == "train"]
                if done and done[-1] >= when.hold_after:
                    return
            yield

    def _ends(self) -> Script:
        yield  # what was seen before it was last acted on does not count
        while self._state.state not in FINAL:
            yield

    def _completes(self) -> Script:
        yield from self._ends()
        if self._state.state != "COMPLETED":
            raise self._otherwise("to complete")

    def _otherwise(self, wanted: str) -> RunError:
        why = f": {self._state.why}" if self._state.why else ""
        return RunError(f"It was {wanted}, but is {self._state.state}{why}.", f"See 'segctl logs {self.run.id}'.")


@dataclass(frozen=True)
class Disturbance:
    """Something that befalls a run.

    Attributes:
        orders: What the run itself does for it; see `segctl_jobs.drill.orders`.
        script: What is done to the run.
    """

    orders: Callable[[Timetable], Mapping[str, Any]]
    script: Callable[[DrilledRun, Timetable], Script]


UNDISTURBED = Disturbance(lambda when: {"watch": True}, DrilledRun.left_alone)
DISTURBANCES: Mapping[str, Disturbance] = {
    "requeue": Disturbance(lambda when: {"hold_after": when.hold_after}, DrilledRun.requeued),
    "kill-in-save": Disturbance(lambda when: {"die_in_save": when.die_in_save}, DrilledRun.killed_in_a_save),
    "lost-node": Disturbance(lambda when: {"hold_after": when.hold_after}, DrilledRun.without_its_node),
}
