"""The process that carries a job out on this machine: waits for its turn, starts the ranks, and ends after them.

It is started by `segctl.launch.local` in a session of its own, so that neither the end of the terminal nor Ctrl-C
reaches it. It plays the scheduler's part: what it knows stands in supervisor.json, and SIGTERM or SIGUSR2 asks it to
stop the job with a checkpoint (twice: now).
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
from pathlib import Path

from segctl.errors import SegctlError
from segctl.launch import queue
from segctl.launch.inbox import Inbox
from segctl.launch.outcome import Outcome, judge
from segctl.launch.plan import LaunchPlan
from segctl.launch.processes import adopt_orphans, kill_job
from segctl.launch.ranks import Ranks
from segctl.launch.state_file import StateFile
from segctl.runs.attempt import Attempt
from segctl.runs.files import read_json
from segctl.runs.process import identify
from segctl.runs.run import Run

log = logging.getLogger("segctl.supervisor")

GO = b"go"  # the submitting command writes this when the attempt is recorded; without it nothing is started
STOP_GRACE = 60.0  # seconds to save a checkpoint; $SEGCTL_STOP_GRACE
HURRY_GRACE = 2.0  # seconds left after a second request
FAILURE_GRACE = 3.0  # seconds for the other ranks once one has failed
LOOK_EVERY = 2.0  # seconds between two looks at files; the end of a rank and a signal are noticed at once


class Supervisor:
    """One attempt of one run, from its place in the queue to its end."""

    def __init__(self, run: Run, attempt: int, plan: LaunchPlan, inbox: Inbox) -> None:
        self._run, self._attempt, self._plan, self._inbox = run, attempt, plan, inbox
        me = identify(os.getpid())
        first = {**Attempt(attempt).as_record(), "stop_grace": stop_grace(), **(me.as_record() if me else {})}
        self._file = StateFile(run.supervisor_file, first)
        self._ranks = Ranks(run, attempt, plan)
        self._grace = stop_grace()
        self._requests: list[str] = []
        self._deadline: float | None = None
        self._failure_seen = False

    def carry_out(self) -> Outcome:
        """Does the job; whatever happens, no process of it is left."""
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
            self._ranks.reap()
            self._write_end(outcome)
        return outcome

    def _wait_and_run(self, held: contextlib.ExitStack) -> Outcome:
        ticket = held.enter_context(contextlib.closing(queue.enter(self._wish())))
        # The submitting command waits for this word: whoever submits later gets a later place.
        self._file.write(must=True, state="PENDING", reason="is starting", started=None, ended=None)
        self._clear_away()  # what an earlier attempt left, should its supervisor have been killed
        cancelled = (read_json(self._run.cancel_file) or {}).get("attempt") == self._attempt
        if cancelled:
            return Outcome("CANCELLED", "before it started")
        if not queue.wait(
            ticket, pause=self._pause, waiting=lambda reason: self._file.write(state="PENDING", reason=reason)
        ):
            return Outcome("CANCELLED", "while it waited for its turn")
        gpus = tuple(gpu.token for gpu in self._plan.gpus if gpu.identity in ticket.holds)
        self._ranks.start(gpus)
        self._file.write(state="RUNNING", reason="", started=time.time(), gpus=list(gpus))
        while self._ranks.living:
            self._step()
        return judge(self._ranks.ended(), requests=self._requests, grace=self._grace)

    def _wish(self) -> queue.Wish:
        among = tuple(gpu.identity for gpu in self._plan.gpus) if self._plan.device == "cuda" else ()
        return queue.Wish(among, self._plan.gpus_per_node if among else self._plan.cpu_slots, self._run.id)

    def _pause(self, seconds: float) -> bool:
        self._inbox.wait(seconds)
        return self._inbox.asked

    def _step(self) -> None:
        """One turn: notices what has happened, acts on it, and sleeps until something does."""
        self._ranks.reap()
        for name in self._inbox.take():
            self._request(name)
        ended = self._ranks.ended()
        if not self._failure_seen and any(rank.failed for rank in ended):
            self._failure_seen = True
            log.info("a rank has failed; the others are stopped")
            self._ranks.ask(signal.SIGTERM)
            self._limit(FAILURE_GRACE)
        if self._deadline is None and ended and not all(rank.finished for rank in ended):
            self._limit(self._grace)  # one rank stopped: so must the others
        self._ranks.kill(self._ranks.hanging())
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._ranks.kill(self._ranks.living)
        self._file.retry()
        if self._ranks.living:
            left = LOOK_EVERY if self._deadline is None else self._deadline - time.monotonic()
            self._inbox.wait(min(LOOK_EVERY, max(left, 0.05)))
            self._ranks.reap()

    def _request(self, name: str) -> None:
        log.info("asked to stop by %s", name)
        if not self._requests:
            self._ranks.ask(getattr(signal, name))
        self._limit(HURRY_GRACE if self._requests else self._grace)
        self._requests.append(name)

    def _limit(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self._deadline = deadline if self._deadline is None else min(self._deadline, deadline)

    def _clear_away(self) -> None:
        stubborn = kill_job(self._run.path)
        if stubborn:
            log.warning("these processes cannot be ended: %s", stubborn)

    def _write_end(self, outcome: Outcome) -> None:
        """The last word; a disk that is full now may have room in a moment, once the job's own files are closed."""
        self._file.write(
            state=outcome.state,
            reason=outcome.reason,
            ended=time.time(),
            exit_codes=self._ranks.exit_codes(),
            deaths=self._ranks.deaths() if outcome.state == "FAILED" else [],
        )
        for _ in range(10):
            if self._file.retry():
                return
            time.sleep(1.0)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m segctl.launch.supervisor", description="Carries out one attempt of a run."
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
    plan = _plan(run, given.attempt)
    if plan is None:
        log.error("%s does not have attempt %s", run.submission_file, given.attempt)
        return 1
    adopt_orphans()
    outcome = Supervisor(run, given.attempt, plan, inbox).carry_out()
    log.info("%s %s", outcome.state, outcome.reason)
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


def _plan(run: Run, attempt: int) -> LaunchPlan | None:
    submission = read_json(run.submission_file) or {}
    for record in submission.get("attempts", []):
        if record.get("number") == attempt:
            return LaunchPlan.from_record(record["plan"])
    return None


def stop_grace() -> float:
    """Seconds that ranks are given to save a checkpoint."""
    try:
        return max(0.0, float(os.environ.get("SEGCTL_STOP_GRACE", STOP_GRACE)))
    except ValueError:
        return STOP_GRACE


if __name__ == "__main__":
    sys.exit(main())
