"""What becomes of a SLURM job whose processes have ended: a pure function of what its leader saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from segctl.launch.outcome import STOPPED, Ended, judge
from segctl.launch.restarts import BY_REQUEST


@dataclass(frozen=True)
class Facts:
    """What the leader knows when srun has ended.

    Attributes:
        ranks: How ranks ended, as far as anyone has said; in the order of their ends.
        world_size: How many there were.
        cancelled: `segctl cancel` has asked for the end.
        told_to_end: SLURM itself ends the job: scancel, the time limit, `scontrol requeue`, a node that failed.
        interruption: Why the job was asked to save, in words; empty where nobody asked.
        grace: Seconds the ranks were given.
    """

    ranks: Sequence[Ended]
    world_size: int
    cancelled: bool = False
    told_to_end: bool = False
    interruption: str = ""
    grace: float = 60.0


@dataclass(frozen=True)
class Verdict:
    """What the leader records and does.

    Attributes:
        state: STOPPED: it is SLURM's to say what the job is now. REQUEUE: to be requeued, if that is allowed.
        reason: In one line.
    """

    state: Literal["COMPLETED", "FAILED", "CANCELLED", "STOPPED", "REQUEUE"]
    reason: str = ""


def decide(facts: Facts) -> Verdict:
    """How the job ended, and whether it should go on by itself.

    A person's error, a rank that was killed and a memory that ran out are final: the next attempt would meet them
    again. An interruption is not, nor is the loss of a node, of which the other ranks know only that connections broke,
    nor a GPU or file system that failed under a rank.
    """
    missing = sorted(set(range(facts.world_size)) - {rank.rank for rank in facts.ranks})
    if not missing and all(rank.finished for rank in facts.ranks):
        return Verdict("COMPLETED")
    if facts.told_to_end and not facts.cancelled:
        # What ranks say of it may be no more than how they ended. An error of their own will be there the next time.
        return Verdict("STOPPED", "SLURM ended it")
    if any(rank.error == "cause" for rank in facts.ranks):
        return Verdict("FAILED")
    if any(rank.failed and rank.error is None for rank in facts.ranks):
        return Verdict("FAILED")
    if facts.cancelled:
        return Verdict("CANCELLED", judge(facts.ranks, requests=["segctl cancel"], grace=facts.grace).reason)
    broken = [rank.rank for rank in facts.ranks if rank.error == "machine"]
    if broken:
        return Verdict("REQUEUE", f"after the machine under {_named(broken)} failed")
    if any(rank.code == STOPPED for rank in facts.ranks) or facts.interruption:
        return Verdict("REQUEUE", facts.interruption or BY_REQUEST)
    return Verdict("REQUEUE", f"after {_named(missing)} vanished" if missing else "after its processes lost each other")


def _named(ranks: Sequence[int]) -> str:
    shown = ", ".join(str(rank) for rank in ranks[:8]) + (" and more" if len(ranks) > 8 else "")
    return f"rank{'s' if len(ranks) > 1 else ''} {shown}"
