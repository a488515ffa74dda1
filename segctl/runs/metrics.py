"""The figures of a run over its steps, as if it had never been interrupted."""

from __future__ import annotations

from typing import Any

from segctl.runs.attempt import Attempt
from segctl.runs.files import read_json_lines
from segctl.runs.run import Run


def read(run: Run) -> list[dict[str, Any]]:
    """The records of metrics.jsonl that still hold, in the order they were written.

    A job that resumes at step k does the steps beyond k again: its ``start`` record voids what earlier attempts and
    restarts recorded there. What such an earlier one still adds after that, as the ranks on a lost node may for a
    moment, does not count. Where a step was recorded twice for the same event, the later record holds.
    """
    kept: list[dict[str, Any]] = []
    current = Attempt(0, 0)
    for record in read_json_lines(run.metrics_file):
        whose = Attempt(_number(record, "attempt", current.number), _number(record, "restart", current.restart))
        if whose < current:
            continue
        step = _step(record)
        if record.get("event") == "start" and step is not None:
            current = whose
            kept = [earlier for earlier in kept if (_step(earlier) or 0) <= step]
        kept.append(record)
    newest = {(record.get("event"), _step(record)): place for place, record in enumerate(kept)}
    return [
        record
        for place, record in enumerate(kept)
        if record.get("event") not in ("train", "eval") or newest[(record.get("event"), _step(record))] == place
    ]


def _step(record: dict[str, Any]) -> float | None:
    step = record.get("step")
    return step if isinstance(step, (int, float)) else None


def _number(record: dict[str, Any], key: str, default: int) -> int:
    number = record.get(key)
    return number if isinstance(number, int) else default
