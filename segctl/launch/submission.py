"""What the submitting command records: each attempt, before its job may do anything."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from segctl.launch.plan import LaunchPlan
from segctl.runs.files import read_json, write_json
from segctl.runs.process import ProcessId, hostname
from segctl.runs.run import Run


@dataclass(frozen=True)
class Submission:
    """A job that was handed over.

    Attributes:
        run: Its run.
        backend: Who carries it out.
        attempt: 1, and one more with every `segctl resume`.
        process: On this machine, its supervisor.
        job_id: On SLURM, the job's number.
    """

    run: Run
    backend: str
    attempt: int
    process: ProcessId | None = None
    job_id: str | None = None


class AttemptRecord:
    """The newest entry of submission.json: first the intent, then the job; taken back if it never started."""

    def __init__(self, run: Run, plan: LaunchPlan) -> None:
        self._file = run.submission_file
        self._before = read_json(self._file)
        self._attempts: list[dict[str, Any]] = list((self._before or {}).get("attempts", []))
        self._plan = plan
        self.number = 1 + max((int(attempt.get("number", 0)) for attempt in self._attempts), default=0)

    def write(self, process: ProcessId | None = None, /, **identity: str | int) -> None:
        """Records what is known of the job: its process, or what the scheduler calls it.

        Raises:
            OSError: The run's directory cannot be written.
        """
        who = {**(process.as_record() if process else {"host": hostname()}), **identity}
        entry = {"number": self.number, "submitted": time.time(), **who, "plan": self._plan.as_record()}
        write_json(self._file, {"backend": self._plan.backend, "attempts": [*self._attempts, entry]})

    def take_back(self) -> None:
        if self._before is None:
            self._file.unlink(missing_ok=True)
        else:
            write_json(self._file, self._before)


def planned(run: Run, number: int) -> LaunchPlan | None:
    """The plan of an attempt; None where there is no such attempt."""
    for record in (read_json(run.submission_file) or {}).get("attempts", []):
        if record.get("number") == number:
            return LaunchPlan.from_record(record["plan"])
    return None
