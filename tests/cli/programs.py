"""What the tests of the command line share: how it is called, and a run of seconds."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEGCTL = str(Path(sys.executable).with_name("segctl"))

# One small epoch of the data set that is drawn on the fly.
TINY = [
    *("train", "--model", "enet", "--dataset", "shapes", "--dataset.samples", "12", "--dataset.eval_samples", "6"),
    *("--batch-size", "4", "--gpus", "0", "--set", "train.workers=0", "--set", "augment.crop=null"),
]
LONG = ["--epochs", "50000", "--set", "train.eval_every=0"]  # more than any test waits for


@dataclass(frozen=True)
class Said:
    """What a call of the program gave: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def status_of(program: Callable[..., Said], *argv: str) -> dict[str, Any]:
    """What ``segctl status --json`` says of the one run that `argv` names."""
    (found,) = json.loads(program("status", "--json", *argv).out)
    assert isinstance(found, dict)
    return found


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.3)
