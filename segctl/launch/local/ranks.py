"""The ranks of a job on this machine, from one start to their end: starting them, hearing from them, ending them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from segctl.launch.environment import job_id, of_rank
from segctl.launch.local.processes import bury, dies_with
from segctl.launch.outcome import Ended
from segctl.launch.plan import LaunchPlan, task_command
from segctl.launch.rank_files import RankFiles
from segctl.runs.attempt import Attempt
from segctl.runs.code import with_snapshot
from segctl.runs.run import Run

# A rank whose last word is written has this long to end; an interpreter can hang in the teardown of a broken process
# group.
_TEARDOWN_SECONDS = {"error": 10.0, "result": 30.0}


class Ranks:
    """One process per rank, each with its log."""

    def __init__(self, run: Run, this: Attempt, plan: LaunchPlan) -> None:
        self._run, self._this, self._plan = run, this, plan
        self._files = RankFiles(run, this, job_id(this.number))
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._codes: dict[int, int] = {}
        self._asked: set[int] = set()
        self._killed: set[int] = set()
        self._last_word: dict[int, tuple[str, float]] = {}
        self._oom_kills = _oom_kills()
        self.order: list[int] = []

    def start(self, gpus: tuple[str, ...]) -> None:
        """Starts all ranks.

        Raises:
            OSError: One could not be started; those before it run.
            RunError: The code that was frozen for them is gone.
        """
        tie = dies_with(os.getpid())
        command = task_command(str(self._run.submitit))
        user = with_snapshot(os.environ, self._run)
        self._files.forget_results(self._plan.world_size)
        for rank in range(self._plan.world_size):
            environment = of_rank(user, self._plan, run_dir=self._run.path, this=self._this, rank=rank, gpus=gpus)
            with self._run.log_file(self._this.number, rank).open("ab") as log:
                self._processes[rank] = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    preexec_fn=tie,
                )

    @property
    def living(self) -> list[int]:
        return [rank for rank in self._processes if rank not in self._codes]

    def reap(self) -> None:
        """Notes which ranks have ended."""
        ended = bury()
        for rank, process in self._processes.items():
            if rank not in self._codes and process.pid in ended:
                process.returncode = self._codes[rank] = ended[process.pid]
                self.order.append(rank)

    def ask(self, signum: int) -> None:
        """Asks every living rank to stop. Its data workers are not asked: the rank ends them."""
        for rank in self.living:
            self._asked.add(rank)
            self._signal(rank, signum)

    def kill(self, ranks: Iterable[int]) -> None:
        for rank in ranks:
            self._killed.add(rank)
            self._signal(rank, signal.SIGKILL)

    def _signal(self, rank: int, signum: int) -> None:
        # Not reaped yet, so the number is still its own.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._processes[rank].pid, signum)

    def hanging(self) -> list[int]:
        """Living ranks whose last word was written too long ago."""
        now = time.monotonic()
        hanging = []
        for rank in self.living:
            word = "result" if self._files.finished(rank) else "error" if self._files.error(rank) else None
            if word is not None:
                word, since = self._last_word.setdefault(rank, (word, now))
                if now - since > _TEARDOWN_SECONDS[word]:
                    hanging.append(rank)
        return hanging

    def ended(self) -> list[Ended]:
        """How the ranks that are gone ended, in the order in which they did."""
        return [self._ended(rank) for rank in self.order]

    def exit_codes(self) -> dict[str, int]:
        return {str(rank): self._codes[rank] for rank in sorted(self._codes)}

    def deaths(self) -> list[dict[str, Any]]:
        """The ranks that ended badly by themselves, earliest first, as supervisor.json has them."""
        before, now, full = self._oom_kills, _oom_kills(), _is_full(self._run.path)
        starved = now > before if now is not None and before is not None else None
        return [
            {
                "rank": end.rank,
                "code": end.code,
                "last_line": self._files.last_line(end.rank) if end.code > 0 else "",
                "out_of_memory": starved,
                "disk_full": full,
            }
            for end in self.ended()
            if end.failed
        ]

    def _ended(self, rank: int) -> Ended:
        return Ended(
            rank=rank,
            code=self._codes[rank],
            finished=self._files.finished(rank),
            error=self._files.error(rank),
            asked=rank in self._asked,
            killed=rank in self._killed,
        )


def _is_full(folder: Path) -> bool:
    """Whether a disk has no room for so much as an error message."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < 65536


def _oom_kills() -> int | None:
    """How many processes the kernel has ended for want of memory since the machine started; None: it does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return None
