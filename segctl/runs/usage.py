"""What a run has cost: GPU time that led to something, and GPU time that interruptions took.

Lost is what lies between the last checkpoint of a start and its interruption, and what the next start took until it
trained again. A start that goes on is taken to be useful until it proves otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segctl.runs.records import Records


@dataclass(frozen=True)
class Usage:
    """GPU seconds, over all GPUs of the job."""

    useful: float
    lost: float


@dataclass(frozen=True)
class Start:
    """One start of an attempt; Unix seconds.

    Attributes:
        restart: Its number, 0 for the first.
        started: When it got its nodes.
        ended: When it gave them back, or now.
        began: When it trained; None: it did not get so far.
        saved: When it wrote its last checkpoint; None: it wrote none.
        interrupted: It ended before its work was done.
    """

    restart: int
    started: float
    ended: float
    began: float | None
    saved: float | None
    interrupted: bool


def with_marks(
    history: Sequence[Mapping[str, Any]], status: Mapping[str, Any] | None, attempt: int
) -> list[dict[str, Any]]:
    """An attempt's `history` for supervisor.json: the start that status.json tells of keeps what only stands there.

    That is when it `began` to train, when it last `saved`, and when it was last `heard` of.
    """
    status = status or {}
    whose = status.get("restart", 0) if status.get("attempt") == attempt else None
    return [{**entry, **(_marks(status) if entry.get("restart") == whose else {})} for entry in history]


def _marks(status: Mapping[str, Any]) -> dict[str, float]:
    keys = {"began": "began", "saved": "checkpoint_time", "heard": "heartbeat"}
    values = {mark: _number(status.get(key)) for mark, key in keys.items()}
    return {mark: value for mark, value in values.items() if value is not None}


def used(records: Records, state: str, now: float) -> Usage | None:
    """What the newest attempt has used; None where it has no GPU, or has not run.

    Args:
        records: The run's files.
        state: The run's derived state.
        now: Unix seconds.
    """
    plan = records.attempt.get("plan")
    gpus = int(plan.get("nodes") or 1) * int(plan.get("gpus_per_node") or 0) if isinstance(plan, Mapping) else 0
    starts = _starts(records, state, now)
    if not gpus or not starts:
        return None
    seconds = sum(start.ended - start.started for start in starts)
    lost = sum(map(lost_seconds, starts))
    return Usage(gpus * (seconds - lost), gpus * lost)


def lost_seconds(start: Start) -> float:
    """Seconds of one start that came to nothing."""
    span = start.ended - start.started
    before = (start.began if start.began is not None else start.ended) - start.started if start.restart else 0.0
    if not start.interrupted:
        return min(before, span) if start.began is not None else 0.0
    after = start.ended - start.saved if start.saved is not None else span
    return min(max(before, 0.0) + max(after, 0.0), span)


def _starts(records: Records, state: str, now: float) -> list[Start]:
    history = records.supervisor.get("history")
    entries = [entry for entry in history if isinstance(entry, Mapping)] if isinstance(history, list) else []
    return [start for at in range(len(entries)) if (start := _start(records, entries, at, state, now)) is not None]


def _start(records: Records, entries: Sequence[Mapping[str, Any]], at: int, state: str, now: float) -> Start | None:
    entry, newest = entries[at], at == len(entries) - 1
    started = _number(entry.get("started"))
    if started is None:
        return None
    said = {**entry, **_marks(records.status)} if newest else entry
    running = newest and state in ("RUNNING", "STALLED") and entry.get("ended") is None
    following = _number(entries[at + 1].get("started")) if not newest else now
    last_word = _number(entry.get("ended")) or _number(said.get("heard")) or following
    ended = now if running else min(value for value in (last_word, following) if value is not None)
    return Start(
        restart=int(entry.get("restart") or 0),
        started=started,
        ended=max(ended, started),
        began=_number(said.get("began")),
        saved=_number(said.get("saved")),
        interrupted=not running and not (newest and state == "COMPLETED"),
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
