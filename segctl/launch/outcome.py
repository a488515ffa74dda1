"""How a job ended, decided from how its ranks ended: a pure function."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

STOPPED = 75  # a rank's exit code: stopped as asked, with a checkpoint to go on from (EX_TEMPFAIL)

# A rank that is asked to stop before it has anything to save simply ends by the signal.
_ENDED_BY_REQUEST = frozenset({0, STOPPED, -signal.SIGTERM, -signal.SIGUSR2})


@dataclass(frozen=True)
class Ended:
    """How one rank ended.

    Attributes:
        rank: Which one.
        code: Exit code; the negative number of the signal that killed it.
        finished: It came back from its work, and said so.
        error: It left an error record: a cause, one that lies in the machine it ran on, or only the consequence of
            another rank's end.
        asked: It had been asked to stop.
        killed: The supervisor killed it.
    """

    rank: int
    code: int
    finished: bool = False
    error: Literal["cause", "machine", "consequence"] | None = None
    asked: bool = False
    killed: bool = False

    @property
    def failed(self) -> bool:
        """Whether it ended badly by itself, not because it was stopped."""
        if self.finished:  # whatever happened while Python was being torn down
            return False
        if self.error in ("cause", "machine"):
            return True
        if self.killed or self.code == STOPPED:
            return False
        if self.asked:
            return self.error is None and self.code not in _ENDED_BY_REQUEST
        return True


@dataclass(frozen=True)
class Outcome:
    """What became of a job; REQUEUED is to go on, all others are final."""

    state: Literal["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "REQUEUED"]
    reason: str = ""


def judge(
    ranks: Sequence[Ended],
    *,
    requests: Sequence[str],
    grace: float,
    interruption: str = "",
    out_of_time: bool = False,
) -> Outcome:
    """What became of the job.

    Args:
        ranks: How each rank ended.
        requests: Names of the signals that asked the job to stop for good, in the order they came.
        grace: Seconds the ranks were given to save a checkpoint.
        interruption: Why the job was asked to stop and to go on later; a request to stop for good goes before it.
        out_of_time: The time limit was reached before all ranks had stopped.
    """
    if all(rank.finished for rank in ranks):
        return Outcome("COMPLETED")
    if any(rank.failed for rank in ranks):
        return Outcome("FAILED")
    killed = _named(sorted(rank.rank for rank in ranks if rank.killed), len(ranks))
    if interruption and not requests:
        if out_of_time and killed:
            return Outcome("TIMEOUT", f"killed: {killed} had not stopped when the time limit was reached")
        return Outcome("REQUEUED", interruption)
    if killed:
        return Outcome("CANCELLED", f"killed: {killed} did not stop within {grace:g} s")
    by = requests[0] if requests else "a signal"
    if any(rank.code == STOPPED for rank in ranks):
        return Outcome("CANCELLED", f"stopped by {by} with a checkpoint")
    return Outcome("CANCELLED", f"stopped by {by} before there was anything to save")


def _named(ranks: Sequence[int], of: int) -> str:
    """``it`` for all ranks, ``ranks 0, 2`` for some, nothing for none."""
    if len(ranks) == of:
        return "it"
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}" if ranks else ""
