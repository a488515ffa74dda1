"""The records of metrics.jsonl as TensorBoard curves in RUN/tensorboard, where TensorBoard is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DRAWN = {
    "train": ("loss", "lr", "grad_norm", "samples_per_second"),
    "eval": ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "mean_dice"),
}


class Curves:
    """Draws the scalars of each record; does nothing where TensorBoard is not installed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def draw(self, record: Mapping[str, Any]) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            return
        if record["event"] == "start":
            from torch.utils.tensorboard import SummaryWriter

            # A run that comes back overwrites what it had drawn beyond the step it starts from.
            self._writer = SummaryWriter(str(self._folder), purge_step=record["step"] + 1, flush_secs=20)
        elif record["event"] == "end" and self._writer is not None:
            self._writer.close()
        elif self._writer is not None:
            for name in DRAWN.get(record["event"], ()):
                if record.get(name) is not None:
                    self._writer.add_scalar(f"{record['event']}/{name}", record[name], record["step"])
