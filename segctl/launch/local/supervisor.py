"""The process that carries a job out on this machine: waits for its turn, starts the ranks, and ends after them.

It is started by `segctl.launch.local.executor` in a session of its own, so that neither the end of the terminal nor
Ctrl-C reaches it. It plays the scheduler's part: what it knows stands in supervisor.json. SIGTERM asks it to stop the
job with a checkpoint (twice: now). At SIGUSR2, and ahead of the time limit, the job saves, and waits for its next turn
at the end of the queue.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from segctl.errors import SegctlError
from segctl.launch.backends import observe
from segctl.launch.inbox import Inbox, stop_grace
from segctl.launch.local import queue
from segctl.launch.local.processes import adopt_orphans, kill_job
from segctl.launch.local.turn import Turn
from segctl.launch.outcome import Outcome
from segctl.launch.plan import LaunchPlan
from segctl.launch.restarts import newest_step, settle
from segctl.launch.state_file import StateFile
from segctl.launch.submission import planned
from segctl.runs.attempt import Attempt
from segctl.runs.files import read_json
from segctl.runs.process import hostname, identify
from segctl.runs.run import Run
from segctl.runs.state import FINAL
from segctl.runs.usage import with_marks

log = logging.getLogger("segctl.supervisor")

GO = b"go"  # the submitting command writes this when the attempt is recorded; without it nothing is started
LOOK_EVERY = 1.0  # seconds between two looks at a run that is waited for
_BEFORE_IT_STARTED: dict[str, Any] = {"state": "PENDING", "started": None, "ended": None}
_WHILE_WAITING = "while it waited for its turn"


class Supervisor:
    """One attempt of one run, from its first place in the queue to its end."""

    def __init__(self, run: Run, attempt: int, plan: LaunchPlan, inbox: Inbox) -> None:
        self._run, self._plan, self._inbox = run, plan, inbox
        self._this = Attempt(attempt)
        me = identify(os.getpid())
        first = {**self._this.as_record(), "stop_grace": stop_grace(), **(me.as_record() if me else {})}
        self._file = StateFile(run.supervisor_file, first)
        self._state, self._waits = "PENDING", ""
        self._history: list[dict[str, Any]] = []
        self._turn: Turn | None = None

    def carry_out(self) -> Outcome:
        """Does the job, in as many turns as it takes; whatever happens, no process of it is left."""
        while (outcome := self._take_a_turn()).state == "REQUEUED":
            self._state, self._waits = "REQUEUED", f"{outcome.reason}; "
            self._this = replace(self._this, restart=self._this.restart + 1)
        return outcome

    def _take_a_turn(self) -> Outcome:
        """From the queue's end to the end of the turn, for which the job keeps what it holds."""
        self._turn = None
        with contextlib.ExitStack() as held:
            try:
                outcome = self._wait_and_run(held)
            except (SegctlError, OSError) as error:
                log.exception("the job could not be carried out")
                outcome = Outcome("FAILED", str(error))
            except BaseException as error:
                log.exception("the supervisor failed")
                outcome = Outcome(
                    "FAILED", f"the supervisor failed: {type(error).__name__}: {error} (see logs/supervisor.log)"
                )
            self._clear_away()
            outcome = self._conclude(outcome)
            log.info("%s %s %s", self._this, outcome.state, outcome.reason)
        return outcome

    def _wait_and_run(self, held: contextlib.ExitStack) -> Outcome:
        if self._state == "PENDING":
            self._clear_away()  # what an earlier attempt left, should its supervisor have been killed
            if self._plan.after is not None and (why_not := self._wait_for(Run(Path(self._plan.after)))):
                return Outcome("CANCELLED", why_not)
        ticket = held.enter_context(contextlib.closing(queue.enter(self._wish())))
        if self._state == "PENDING":
            # The submitting command waits for this word: whoever submits later gets a later place.
            self._file.write(must=True, **_BEFORE_IT_STARTED, reason="is starting")
        if self._is_cancelled():
            return Outcome("CANCELLED", "before it started" if self._state == "PENDING" else _WHILE_WAITING)
        if not queue.wait(ticket, pause=self._pause, waiting=self._tell_what_is_waited_for):
            return Outcome("CANCELLED", _WHILE_WAITING)
        gpus = tuple(gpu.token for gpu in self._plan.gpus if gpu.identity in ticket.holds)
        self._turn = Turn(self._run, self._this, self._plan, self._inbox, self._file)
        begins: dict[str, Any] = {"restart": self._this.restart, "started": time.time(), "ended": None, "reason": ""}
        self._history.append({**begins, "nodes": hostname(), "from_step": newest_step(self._run)})
        self._turn.start(gpus)
        self._file.write(**begins, state="RUNNING", gpus=list(gpus), history=list(self._history))
        return self._turn.finish()

    def _wait_for(self, first: Run) -> str:
        """Waits until another run has completed; returns why this one cannot follow it, nothing where it can."""
        answered = False
        while True:
            ((_, seen),) = observe([first])
            if seen.state == "COMPLETED":
                return ""
            if seen.state in FINAL:
                return f"{first.id}, which it was to follow, is {seen.state}"
            waits = f"waits for {first.id}, which is {seen.state}"
            self._file.write(must=not answered, **_BEFORE_IT_STARTED, reason=waits)
            answered = True
            if self._pause(LOOK_EVERY):
                return _WHILE_WAITING

    def _wish(self) -> queue.Wish:
        among = tuple(gpu.identity for gpu in self._plan.gpus) if self._plan.device == "cuda" else ()
        count = self._plan.gpus_per_node if among else self._plan.cpu_slots
        return queue.Wish(among, count, self._run.id, self._plan.sweep, self._plan.max_running or 0)

    def _pause(self, seconds: float) -> bool:
        """Sleeps; True when the job was cancelled meanwhile."""
        self._inbox.wait(seconds)
        return self._is_cancelled()

    def _is_cancelled(self) -> bool:
        """For a job that waits; a request to requeue that has come too late for its last turn is forgotten here."""
        told = signal.SIGTERM.name in self._inbox.take()
        return told or (read_json(self._run.cancel_file) or {}).get("attempt") == self._this.number

    def _tell_what_is_waited_for(self, reason: str) -> None:
        self._file.write(state=self._state, reason=f"{self._waits}{reason}")

    def _clear_away(self) -> None:
        stubborn = kill_job(self._run.path)
        if stubborn:
            log.warning("these processes cannot be ended: %s", stubborn)

    def _conclude(self, outcome: Outcome) -> Outcome:
        """Records how the turn ended, and whether there is to be another one; a disk that is full now may have room in
        a moment, once the job's own files are closed."""
        facts: dict[str, Any] = {"ended": time.time(), "exit_codes": {}, "deaths": []}
        if self._turn is not None:
            ranks = self._turn.ranks
            ranks.reap()
            facts["exit_codes"] = ranks.exit_codes()
            facts["deaths"] = ranks.deaths() if outcome.state == "FAILED" else []
            self._history[-1] = {**self._history[-1], "ended": facts["ended"], "reason": outcome.reason}
            self._history = with_marks(self._history, read_json(self._run.status_file), self._this.number)
            outcome = settle(outcome, self._plan, self._history, newest_step(self._run))
        elif self._history:  # it did not come to another turn
            facts["ended"] = self._history[-1]["ended"]
        facts |= {"restart": self._this.restart, "history": list(self._history)}
        self._file.write(state=outcome.state, reason=outcome.reason, **facts)
        for _ in range(10):
            if self._file.retry():
                break
            time.sleep(1.0)
        return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m segctl.launch.local.supervisor", description="Carries out one attempt of a run."
    )
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("attempt", type=int)
    parser.add_argument("--lock-fd", type=int, help="descriptor that holds the lock on RUN/job.lock already")
    given = parser.parse_args(arguments)
    inbox = Inbox()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    if not _told_to_go():
        return 1
    run = Run(given.run_dir.resolve())
    if not _locked(run, given.lock_fd):
        log.error("another job of %s is still running", run.id)
        return 1
    plan = planned(run, given.attempt)
    if plan is None:
        log.error("%s does not have attempt %s", run.submission_file, given.attempt)
        return 1
    adopt_orphans()
    outcome = Supervisor(run, given.attempt, plan, inbox).carry_out()
    return 0 if outcome.state == "COMPLETED" else 1


def _told_to_go() -> bool:
    """Waits on standard input for the word that the attempt is recorded; a job nobody knows of must not run."""
    word = b""
    while len(word) < len(GO) and (part := os.read(0, len(GO) - len(word))):
        word += part
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return word == GO


def _locked(run: Run, inherited: int | None) -> bool:
    """Holds the run's lock until this process ends. Ranks do not inherit it: one that hangs must not keep the run."""
    if inherited is not None:
        os.set_inheritable(inherited, False)
        return True
    return lock_run(run) is not None


def lock_run(run: Run) -> int | None:
    """A descriptor that holds the run's lock, or None while another job of the run lives.

    Raises:
        OSError: The lock file cannot be opened.
    """
    descriptor = os.open(run.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if queue.lock(descriptor):
            return descriptor
    except OSError as error:
        # Some network file systems have no locks; the run can still be used there, only two jobs at once are not
        # prevented.
        if error.errno in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            return descriptor
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


if __name__ == "__main__":
    sys.exit(main())
