"""Runs whose job is a few lines of Python, submitted to the local queue, watched and cleared away."""

from __future__ import annotations

import signal
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from segctl.launch import backends
from segctl.launch.local.processes import kill_strays
from segctl.launch.plan import LaunchPlan
from segctl.runs import store
from segctl.runs.files import read_json
from segctl.runs.process import ProcessId, alive, send
from segctl.runs.run import Run
from segctl.status import RunStatus, of


class Jobs:
    """Submits runs whose job is the given Python text, and watches them."""

    def __init__(self, runs_dir: Path) -> None:
        self._dir = runs_dir
        self.made: list[Run] = []

    def plan(self, procs: int = 1, **changes: object) -> LaunchPlan:
        plan = LaunchPlan("local", 1, procs, "cpu", 0, 1, cpu_slots=8, environment={"OMP_NUM_THREADS": "1"})
        return replace(plan, **changes)  # type: ignore[arg-type]

    def make(self, body: str) -> Run:
        run = store.create("", {"kind": "train", "model": "enet", "dataset": "shapes"}, self._dir)
        (run.path / "job.py").write_text(textwrap.dedent(body))
        self.made.append(run)
        return run

    def submit(self, run: Run, procs: int = 1, **changes: object) -> Run:
        backends.backend("local").submit(run, self.plan(procs, **changes))
        return run

    def submit_again(self, run: Run) -> Run:
        """Its last word comes before the end of the supervisor, which would still count as the run's job."""
        self.until(lambda: alive(self.supervisor(run)), lambda living: living is False)
        return self.submit(run)

    def start(self, body: str, procs: int = 1, **changes: object) -> Run:
        return self.submit(self.make(body), procs, **changes)

    def wait(self, run: Run, *states: str, seconds: float = 120) -> RunStatus:
        return self.until(lambda: of([run])[0], lambda status: status.state in states, seconds)

    def ended(self, run: Run) -> RunStatus:
        return self.wait(run, "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "LOST")

    def file(self, run: Run, name: str) -> str:
        """Content of a file that the job writes, once it is there."""
        path = run.path / name
        return self.until(lambda: path.read_text() if path.exists() else "", bool)

    def until(self, look: Callable[[], object], good: Callable[..., bool], seconds: float = 120) -> object:  # type: ignore[return]
        deadline = time.monotonic() + seconds
        while True:
            seen = look()
            if good(seen):
                return seen
            if time.monotonic() > deadline:
                logs = [path.read_text() for run in self.made for path in run.logs.iterdir()]
                pytest.fail(f"after {seconds} s still {seen}\n" + "\n".join(logs))
            time.sleep(0.05)

    def supervisor(self, run: Run) -> ProcessId:
        process = ProcessId.from_record(read_json(run.supervisor_file) or {})
        assert process is not None
        return process

    def clear_away(self) -> None:
        for run in self.made:
            for file in (run.supervisor_file, run.submission_file):
                content = read_json(file) or {}
                for record in (content, *content.get("attempts", [])):
                    process = ProcessId.from_record(record)
                    if process is not None and alive(process):
                        send(process, signal.SIGKILL)
            kill_strays(run.path)
