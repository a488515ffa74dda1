"""One turn of a job on this machine: from the start of its ranks until they are gone.

Four things end a turn early. A rank fails; the others follow. SIGTERM: the job is to stop for good. SIGUSR2, or the
time limit some seconds ahead: it is to save, and to wait for its next turn. The ranks are asked, and killed where they
do not stop in time.
"""

from __future__ import annotations

import logging
import math
import signal
import time

from segctl.launch.inbox import Inbox, stop_grace
from segctl.launch.local.ranks import Ranks
from segctl.launch.outcome import Outcome, judge
from segctl.launch.plan import LaunchPlan
from segctl.launch.restarts import AT_LIMIT, BY_REQUEST
from segctl.launch.state_file import StateFile
from segctl.runs.attempt import Attempt
from segctl.runs.run import Run

log = logging.getLogger("segctl.supervisor")

HURRY_GRACE = 2.0  # seconds left after a second request to stop
FAILURE_GRACE = 3.0  # seconds for the other ranks once one has failed, or is gone before it had begun
_BEFORE_IT_LISTENED = (-signal.SIGTERM, -signal.SIGUSR2)  # once a rank listens, these only set a flag
LOOK_EVERY = 2.0  # seconds between two looks at files; the end of a rank and a signal are noticed at once


class Turn:
    """The ranks of one turn, and what is asked of them."""

    def __init__(self, run: Run, this: Attempt, plan: LaunchPlan, inbox: Inbox, file: StateFile) -> None:
        self.ranks = Ranks(run, this, plan)
        self._plan, self._inbox, self._file = plan, inbox, file
        self._grace = stop_grace()
        self._cancels: list[str] = []
        self._interruption = ""
        self._stopping = self._failure_seen = False
        self._deadline = self._save_at = self._ends_at = math.inf

    def start(self, gpus: tuple[str, ...]) -> None:
        """Starts the ranks; their time begins.

        Raises:
            OSError: One could not be started.
        """
        self.ranks.start(gpus)
        if self._plan.time_limit is not None:
            self._deadline = self._ends_at = time.monotonic() + self._plan.time_limit
            self._save_at = self._ends_at - self._plan.save_before

    def finish(self) -> Outcome:
        """Returns when all ranks are gone."""
        while self.ranks.living:
            self._step()
        return judge(
            self.ranks.ended(),
            requests=self._cancels,
            grace=self._grace,
            interruption=self._interruption,
            out_of_time=time.monotonic() >= self._ends_at,
        )

    def _step(self) -> None:
        """Notices what has happened, acts on it, and sleeps until something does."""
        self.ranks.reap()
        for name in self._inbox.take():
            self._heed(name)
        if time.monotonic() >= self._save_at:
            self._save_at = math.inf
            self._interrupt(AT_LIMIT, "stopping for its time limit")
        self._follow_the_first()
        self.ranks.kill(self.ranks.hanging())
        if time.monotonic() >= self._deadline:
            self.ranks.kill(self.ranks.living)
        self._file.retry()
        if self.ranks.living:
            left = min(self._deadline, self._save_at) - time.monotonic()
            self._inbox.wait(min(LOOK_EVERY, max(left, 0.05)))
            self.ranks.reap()

    def _heed(self, name: str) -> None:
        log.info("received %s", name)
        if name == signal.SIGTERM.name:
            self._limit(HURRY_GRACE if self._cancels else self._grace)
            self._cancels.append(name)
            self._stopping = True
            self.ranks.ask(signal.SIGTERM)
        elif self._interrupt(BY_REQUEST, "stopping to be requeued"):
            self._limit(self._grace)

    def _interrupt(self, why: str, doing: str) -> bool:
        """Asks the ranks to save, for the job to go on later; False where they are stopping already."""
        if self._stopping:
            return False
        log.info(doing)
        self._interruption, self._stopping = why, True
        self._file.write(reason=doing)
        self.ranks.ask(signal.SIGUSR2)
        return True

    def _follow_the_first(self) -> None:
        """When one rank is gone the others must follow: soon where it failed, else after saving."""
        ended = self.ranks.ended()
        if not self._failure_seen and any(rank.failed for rank in ended):
            self._failure_seen = self._stopping = True
            log.info("a rank has failed; the others are stopped")
            self.ranks.ask(signal.SIGTERM)
            self._limit(FAILURE_GRACE)
        elif not self._stopping and not all(rank.finished for rank in ended):
            self._stopping = True
            self._limit(self._grace)
        if any(rank.asked and rank.code in _BEFORE_IT_LISTENED for rank in ended):
            self._limit(FAILURE_GRACE)  # without that one the others can save nothing: they wait for it in vain

    def _limit(self, seconds: float) -> None:
        self._deadline = min(self._deadline, time.monotonic() + seconds)
