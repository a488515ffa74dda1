"""Keeps what is left of an earlier start of a run from writing into it.

A node that SLURM has given up may live on, and the ranks there with it, while the run goes on elsewhere. So every start
first writes RUN/current.json, and whoever writes the run's files looks there before: if a later start has begun, it
writes nothing more. Between that look and the write lie milliseconds, between the writing of current.json and the first
use of a checkpoint seconds.
"""

from __future__ import annotations

import time

from segctl.runs import attempt
from segctl.runs.attempt import Attempt
from segctl.runs.files import read_json, write_json
from segctl.runs.process import hostname
from segctl.runs.run import Run

__all__ = ["Fence", "SupersededError", "claim", "successor"]

INTERVAL = 1.0  # seconds for which a look holds


class SupersededError(Exception):
    """A later start of the run has begun: this one must not write any more."""


def claim(run: Run, this: Attempt | None = None, *, job_id: str = "") -> None:
    """Makes `this` (by default the start that this process belongs to) the current start of the run.

    Raises:
        SupersededError: A later one has begun already.
        OSError: The run's directory cannot be written.
    """
    this = attempt.this() if this is None else this
    now = _current(run)
    if now is not None and now > this:
        raise SupersededError(f"{now} of {run.id} has begun; this is {this}")
    if now != this:
        job = {"job_id": job_id} if job_id else {}
        write_json(run.current_file, {**this.as_record(), **job, "host": hostname(), "time": time.time()})


def successor(run: Run, this: Attempt | None = None) -> Attempt | None:
    """The later start that has taken `this` one's place, or None."""
    this = attempt.this() if this is None else this
    now = _current(run)
    return now if now is not None and now > this else None


class Fence:
    """What a writer asks before it writes; cheap enough for every step."""

    def __init__(self, run: Run) -> None:
        self._run, self._this = run, attempt.this()
        self._looked = float("-inf")

    def check(self, *, now: bool = False) -> None:
        """Looks at most once a second, unless `now`.

        Raises:
            SupersededError: A later start has begun.
        """
        moment = time.monotonic()
        if not now and moment - self._looked < INTERVAL:
            return
        later = successor(self._run, self._this)
        if later is not None:
            raise SupersededError(f"{later} of {self._run.id} has begun; this is {self._this}")
        self._looked = moment


def _current(run: Run) -> Attempt | None:
    record = read_json(run.current_file)
    if record is None:
        return None
    return Attempt(int(record.get("attempt") or 0), int(record.get("restart") or 0))
