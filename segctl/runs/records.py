"""A run's files, read at one moment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from segctl.runs.files import read_json
from segctl.runs.run import Run


@dataclass(frozen=True)
class Records:
    """What a run's files say; a file that is missing or damaged is an empty mapping.

    `supervisor`, `cancel`, `status` and `errors` are those of the newest attempt, and of its newest restart where the
    job went on by itself: what an earlier one left is not in here.
    """

    id: str
    run: Mapping[str, Any] = field(default_factory=dict)
    submission: Mapping[str, Any] = field(default_factory=dict)
    attempt: Mapping[str, Any] = field(default_factory=dict)
    supervisor: Mapping[str, Any] = field(default_factory=dict)
    cancel: Mapping[str, Any] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)
    errors: tuple[Mapping[str, Any], ...] = ()
    earlier_status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """Number of the newest attempt; 0 before the first."""
        return int(self.attempt.get("number", 0))

    @property
    def restart(self) -> int:
        """How often the newest attempt has gone on by itself, after its time limit or a preemption."""
        return int(self.supervisor.get("restart", 0))

    @property
    def backend(self) -> str:
        return str(self.submission.get("backend", "local"))


def read(run: Run) -> Records:
    """Reads a run's few JSON files; a thousand runs are read with every `segctl status`."""
    path = os.fspath(run.path)
    try:
        present = set(os.listdir(path))
    except OSError:
        present = set()

    def content(name: str) -> Mapping[str, Any]:
        return (read_json(os.path.join(path, name)) or {}) if name in present else {}

    submission = content("submission.json")
    attempts = submission.get("attempts")
    newest = attempts[-1] if isinstance(attempts, list) and attempts else None
    attempt = newest if isinstance(newest, dict) else {}
    number = attempt.get("number")

    def of_attempt(record: Mapping[str, Any]) -> Mapping[str, Any]:
        return record if record.get("attempt") == number else {}

    supervisor = of_attempt(content("supervisor.json"))
    restart = supervisor.get("restart", 0)

    def current(record: Mapping[str, Any]) -> Mapping[str, Any]:
        return record if of_attempt(record) and record.get("restart", 0) == restart else {}

    status = content("status.json")
    errors = (current(error) for error in _errors(os.path.join(path, "errors"))) if "errors" in present else ()
    return Records(
        id=run.id,
        run=content("run.json"),
        submission=submission,
        attempt=attempt,
        supervisor=supervisor,
        cancel=of_attempt(content("cancel.json")),
        status=current(status),
        errors=tuple(error for error in errors if error),
        earlier_status=status,
    )


def _errors(folder: str) -> list[Mapping[str, Any]]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [read_json(os.path.join(folder, name)) or {} for name in names if name.startswith("rank")]
