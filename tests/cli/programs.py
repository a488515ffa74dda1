"""What the tests of the command line share: how it is called, and a run of seconds."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

SEGCTL = str(Path(sys.executable).with_name("segctl"))

# One small epoch of the data set that is drawn on the fly.
TINY = [
    *("train", "--model", "enet", "--dataset", "shapes", "--dataset.samples", "12", "--dataset.eval_samples", "6"),
    *("--batch-size", "4", "--gpus", "0", "--set", "train.workers=0", "--set", "augment.crop=null"),
]


@dataclass(frozen=True)
class Said:
    """What a call of the program gave: exit code, standard output, standard error."""

    code: int
    out: str
    err: str
