"""What the ranks of one start leave behind: submitit's results, their error records, and the ends of their logs."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from segctl.runs.attempt import Attempt
from segctl.runs.fault import is_consequence, of_error
from segctl.runs.files import read_json
from segctl.runs.run import Run

__all__ = ["RankFiles", "last_line"]

_TAIL = 8192  # bytes
Word = Literal["cause", "machine", "consequence"]  # as `outcome.Ended` has it


@dataclass(frozen=True)
class RankFiles:
    """The files of one start of an attempt.

    Attributes:
        run: The run.
        this: The attempt and its restart.
        job: The number under which submitit knows the job.
    """

    run: Run
    this: Attempt
    job: str

    def forget_results(self, world_size: int) -> None:
        """Removes those from before a restart: submitit does not tell them apart."""
        for rank in range(world_size):
            self._result(rank).unlink(missing_ok=True)

    def finished(self, rank: int) -> bool:
        """Whether submitit has noted that the call came back; exit code 0 alone may be an os._exit somewhere."""
        try:
            with self._result(rank).open("rb") as file:
                return bool(pickle.load(file)[0] == "success")
        except (OSError, pickle.UnpicklingError, EOFError, LookupError, TypeError):
            return False

    def error(self, rank: int) -> Word | None:
        """What the rank's error record of this start is; None where it has left none."""
        return self._word(read_json(self.run.error_file(rank)))

    def errors(self) -> dict[int, Word]:
        """The same for all ranks that have left one, from one look at their folder."""
        records = (read_json(path) for path in self.run.errors.glob("rank*.json"))
        return {int(record["rank"]): word for record in records if record and (word := self._word(record))}

    def last_line(self, rank: int) -> str:
        """Of the rank's log."""
        return last_line(self.run.log_file(self.this.number, rank))

    def _word(self, record: Mapping[str, Any] | None) -> Word | None:
        mine = self.this.as_record()
        if record is None or any(record.get(key, 0) != value for key, value in mine.items()):
            return None
        if is_consequence(record):
            return "consequence"
        return "machine" if of_error(record) == "node" else "cause"

    def _result(self, rank: int) -> Path:
        return self.run.submitit / f"{self.job}_{rank}_result.pkl"


def last_line(log: Path) -> str:
    """The last line of a log that says something, cut to 300 characters; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip()[:300] if lines else ""
