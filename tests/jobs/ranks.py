"""Real ranks of a small training, started as their launcher would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from segctl.config.load import dump, resolve
from segctl.runs.run import Run

SETTINGS = [
    "dataset.size=32",
    "dataset.samples=20",
    "dataset.eval_samples=4",
    "train.batch_size=6",
    "train.steps=200",
    "train.eval_every=20",
    "train.checkpoint_every=4",
    "train.workers=0",
    "train.ema=0.9",
    "train.log_every=1",
    "augment.crop=null",
    "augment.scale=[0.8, 1.25]",
    "optimizer.name=adamw",
    "optimizer.lr=0.002",
]
RANK = """
import signal, sys
from pathlib import Path
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append("SIGTERM"))
import torch
torch.set_num_threads(1)
from segctl_jobs.main import run
run(Path(sys.argv[1]), lambda: asked[0] if asked else None)
"""

started: list[subprocess.Popen[bytes]] = []


def make_run(folder: Path, *settings: str) -> Run:
    folder.mkdir()
    run = Run(folder)
    config = resolve(None, {"model.name": "enet", "dataset.name": "shapes"}, [*SETTINGS, *settings])
    run.config_file.write_text(dump(config))
    run.run_file.write_text(json.dumps({"id": run.id, "kind": "train"}))
    return run


def start(run: Run, attempt: int = 1, size: int = 1, **environment: str) -> list[subprocess.Popen[bytes]]:
    """Starts the ranks of an attempt."""
    run.logs.mkdir(exist_ok=True)
    processes = []
    for rank in range(size):
        variables = {
            **os.environ,
            **environment,
            "RANK": str(rank),
            "WORLD_SIZE": str(size),
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": str(size),
            "SEGCTL_ATTEMPT": str(attempt),
        }
        with run.log_file(attempt, rank).open("wb") as log:
            processes.append(
                subprocess.Popen([sys.executable, "-c", RANK, str(run.path)], env=variables, stdout=log, stderr=log)
            )
    started.extend(processes)
    return processes


def finish(processes: Sequence[subprocess.Popen[bytes]], run: Run) -> list[int]:
    codes = [process.wait(timeout=600) for process in processes]
    assert set(codes) <= {0, 75}, "\n".join(log.read_text() for log in sorted(run.logs.iterdir()))
    return codes


def steps_done(run: Run) -> int:
    try:
        return int(json.loads(run.status_file.read_text()).get("step", 0))
    except (OSError, ValueError):
        return 0


def wait_for_step(step: int, processes: Sequence[subprocess.Popen[bytes]], run: Run) -> None:
    while steps_done(run) < step:
        assert all(process.poll() is None for process in processes), "it ended before it got that far"
        time.sleep(0.01)
