"""Which attempt of a run a process belongs to: one per submission, and in each one restart more per requeue."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

VARIABLES = ("SEGCTL_ATTEMPT", "SEGCTL_RESTART")


@dataclass(frozen=True, order=True)
class Attempt:
    """A submission of a run, by number, and how often its job went on by itself since (0: not yet); ordered in time."""

    number: int = 1
    restart: int = 0

    def as_record(self) -> dict[str, int]:
        """How records say whose they are; see `segctl.runs.records.read`."""
        return {"attempt": self.number, "restart": self.restart}

    def as_environment(self) -> dict[str, str]:
        return dict(zip(VARIABLES, (str(self.number), str(self.restart)), strict=True))

    def __str__(self) -> str:
        return f"attempt{self.number}" + (f"-restart{self.restart}" if self.restart else "")


def this(environ: Mapping[str, str] = os.environ) -> Attempt:
    """The attempt of this process, as its launcher has said."""
    number, restart = (environ.get(name) for name in VARIABLES)
    return Attempt(int(number or 1), int(restart or 0))
