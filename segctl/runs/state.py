"""The state of a run, derived from its files and from what its scheduler says: a pure function.

PENDING     waits for its turn, or is about to start
RUNNING     runs
STALLED     its process lives, but has not given a sign of life for a while
REQUEUED    was stopped by the scheduler and waits to go on
COMPLETED   every rank finished its work
FAILED      a rank raised, was killed or left without a word
CANCELLED   was stopped because somebody asked for it
TIMEOUT     reached its time limit
LOST        its process is gone and left no word
UNKNOWN     cannot be seen from here; never a reason to act
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from segctl.runs.blame import Blame, Death, blame, is_consequence
from segctl.runs.fault import NEEDS_A_PERSON
from segctl.runs.records import Records

State = Literal[
    "PENDING", "RUNNING", "STALLED", "REQUEUED", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "LOST", "UNKNOWN"
]  # fmt: skip

FINAL: frozenset[State] = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "LOST"})
STALL_SECONDS = 120.0
START_SECONDS = (
    300.0  # importing torch from a slow disk and opening a large data set come before the first sign of life
)


@dataclass(frozen=True)
class Allocation:
    """What a scheduler has given to a job, or will; None and empty where it does not say.

    Attributes:
        nodes: Such as ``n[0-2]``.
        queue_reason: The scheduler's word for why it waits, such as ``Resources``.
        expected_start: When it is expected to begin; Unix seconds.
        started: When its newest start began; Unix seconds.
        elapsed: Seconds that start has run.
        limit: Seconds it may run.
        restart: How often the job was requeued. Above the run's own `Records.restart` its newest start has not yet
            left a word.
    """

    nodes: str = ""
    queue_reason: str = ""
    expected_start: float | None = None
    started: float | None = None
    elapsed: float | None = None
    limit: float | None = None
    restart: int | None = None


@dataclass(frozen=True)
class Sight:
    """What the scheduler says of the newest attempt; on one's own machine supervisor and process table play its part.

    Attributes:
        state: Never STALLED, which no scheduler knows.
        reason: In one line.
        rests_on: Where that was read.
        hint: What can be done about it, where it is not what can always be done.
        allocation: Of a cluster.
    """

    state: State
    reason: str = ""
    rests_on: str = ""
    hint: str = ""
    allocation: Allocation = Allocation()


@dataclass(frozen=True)
class Derived:
    """A state, why it is so and what can be done, each in one line, what that rests on, and what the job was given."""

    state: State
    why: str = ""
    hint: str = ""
    rests_on: str = ""
    allocation: Allocation = Allocation()


def derive(records: Records, sight: Sight, now: float) -> Derived:
    """The run's state from its own files and the scheduler's word.

    Args:
        records: The run's files.
        sight: What the scheduler says of the newest attempt.
        now: Unix seconds.
    """
    return replace(_derived(records, sight, now), allocation=sight.allocation)


def _derived(records: Records, sight: Sight, now: float) -> Derived:
    if sight.state == "LOST":
        return _lost(records, sight)
    if sight.state == "FAILED":
        return _failed(records, sight)
    if sight.state in ("CANCELLED", "TIMEOUT"):
        return Derived(sight.state, _stopped_why(records, sight), _go_on(records), sight.rests_on)
    if sight.state == "RUNNING":
        return _running(records, sight, now)
    if sight.state == "UNKNOWN":
        return _unseen(records, sight, now)
    return Derived(sight.state, sight.reason, sight.hint, sight.rests_on)


def _lost(records: Records, sight: Sight) -> Derived:
    """The job left no word of its own; what its ranks wrote may say how it ended."""
    if records.status.get("phase") == "completed":
        return Derived("COMPLETED", "", "", "status.json")
    if records.cancel:
        return Derived("CANCELLED", _asked_by(records), _go_on(records), "cancel.json and the missing process")
    if any(not is_consequence(error) for error in records.errors):
        return _failed(records, sight)
    return Derived(
        "LOST",
        sight.reason,
        f"'segctl logs {records.id}' shows its last words. {_go_on(records)}".strip(),
        sight.rests_on,
    )


def _failed(records: Records, sight: Sight) -> Derived:
    found = blame(records.errors, deaths(records))
    # Where ranks know only that others were gone, whoever ended the job knows better.
    if found is None or (sight.reason and not records.supervisor.get("deaths") and _only_consequences(records)):
        found = Blame(None, sight.reason or "failed without a word", sight.hint, sight.rests_on)
    rank = f" --rank {found.rank}" if found.rank else ""
    hint = found.hint or f"'segctl logs {records.id}{rank}' shows all of it."
    # A user's mistake has to be mended first, and its own hint says how.
    mended_first = found.hint and found.fault in NEEDS_A_PERSON and found.rests_on != "exit codes"
    return Derived("FAILED", found.why, hint if mended_first else f"{hint} {_go_on(records)}", found.rests_on)


def _only_consequences(records: Records) -> bool:
    return all(is_consequence(error) for error in records.errors)


def _running(records: Records, sight: Sight, now: float) -> Derived:
    # What the files tell may be of the start before: then only the scheduler has seen this one.
    unheard = (sight.allocation.restart or 0) > records.restart
    heartbeat = None if unheard else _number(records.status.get("heartbeat"))
    started = None if unheard else _number(records.supervisor.get("started"))
    started = sight.allocation.started if started is None else started
    silent = now - heartbeat if heartbeat is not None else None
    since_start = now - started if started is not None and heartbeat is None else None
    cancel_hint = f"'segctl logs {records.id}' shows what it did last; 'segctl cancel {records.id}' ends it."
    phase = str(records.status.get("phase") or "starting") if not unheard else "starting"
    if silent is not None and silent > (START_SECONDS if phase == "starting" else STALL_SECONDS):
        what = f"no sign of life for {duration(silent)} while {phase}"
        return Derived("STALLED", what, cancel_hint, f"{sight.rests_on} and the heartbeat in status.json")
    if since_start is not None and since_start > START_SECONDS:
        what = f"started {duration(since_start)} ago and has not given a sign of life"
        return Derived("STALLED", what, cancel_hint, f"{sight.rests_on} and the missing status.json")
    stopping = f"stopping: {_asked_by(records)}" if records.cancel else ""
    doing = "ending" if phase in ("completed", "stopped") else phase  # its ranks have, the job has not
    return Derived("RUNNING", stopping or sight.reason or doing, "", sight.rests_on)


def _unseen(records: Records, sight: Sight, now: float) -> Derived:
    if records.backend != "local":
        return Derived("UNKNOWN", sight.reason, sight.hint, sight.rests_on)
    heartbeat = _number(records.status.get("heartbeat"))
    if (
        heartbeat is not None
        and now - heartbeat <= STALL_SECONDS
        and records.status.get("phase") not in ("completed", "stopped")
    ):
        return Derived("RUNNING", str(records.status.get("phase", "")), "", "the heartbeat in status.json")
    host = records.attempt.get("host")
    return Derived("UNKNOWN", sight.reason, f"Run 'segctl status' on {host}." if host else "", sight.rests_on)


def _stopped_why(records: Records, sight: Sight) -> str:
    asked = _asked_by(records) if records.cancel else ""
    return "; ".join(part for part in (asked, sight.reason) if part)


def _asked_by(records: Records) -> str:
    return f"cancelled by {records.cancel.get('user') or 'somebody'}"


def _go_on(records: Records) -> str:
    """How to carry on, and from where."""
    if again := records.run.get("again"):  # its kind is not resumed, but done again, and goes on by itself
        return f"'{again}' goes on where it stopped."
    step = records.status.get("checkpoint_step", records.earlier_status.get("checkpoint_step"))
    resume = f"'segctl resume {records.id}'"
    return f"{resume} goes on from step {step}." if isinstance(step, int) and step > 0 else f"{resume} starts it again."


def deaths(records: Records) -> list[Death]:
    """Ranks that ended badly by themselves, as their supervisor saw it."""
    said = records.supervisor.get("deaths")
    if not isinstance(said, list):
        return []
    return [Death.from_record(death) for death in said if isinstance(death, Mapping)]


def duration(seconds: float) -> str:
    """A time span in words of one unit: ``90 s``, ``3 min``, ``5 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
