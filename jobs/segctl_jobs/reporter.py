"""What a job says about itself: rank 0's status.json and metrics.jsonl."""

from __future__ import annotations

import logging
import math
import socket
import time
from collections.abc import Mapping
from typing import Any

from segctl.runs.attempt import this
from segctl.runs.fence import Fence
from segctl.runs.files import append_json_line, sync, write_json
from segctl.runs.run import Run
from segctl_jobs import watchdog
from segctl_jobs.curves import Curves
from segctl_jobs.distributed import World

log = logging.getLogger(__name__)

STATUS_INTERVAL = 1.0  # seconds between two writes of status.json, which may lie on a network file system


class Reporter:
    """Rank 0's pen; on the other ranks every method only says that there is progress.

    Attributes:
        fence: Whatever rank 0 writes, it asks before whether it still may.
    """

    def __init__(self, run: Run, world: World) -> None:
        self._run = run
        self._active = world.is_main
        self.fence = Fence(run)
        self._curves = Curves(run.path / "tensorboard")
        self._written = 0.0
        self._status: dict[str, Any] = {
            **this().as_record(),
            "phase": "starting",
            "host": socket.gethostname(),
            "device": str(world.device.type),
            "world_size": world.size,
        }

    def status(self, *, now: bool = False, **fields: Any) -> None:
        """Updates fields of status.json and the heartbeat; written at most once a second unless `now`.

        Raises:
            SupersededError: A later start of the run has begun. So does `record`.
        """
        self._status.update(json_safe(fields))
        watchdog.beat(self._status["phase"])
        moment = time.time()
        if self._active and (now or moment - self._written >= STATUS_INTERVAL):
            self._written = moment
            self.fence.check(now=now)
            write_json(self._run.status_file, {**self._status, "heartbeat": moment})

    def record(self, event: str, **fields: Any) -> None:
        """Appends a record to metrics.jsonl and draws it."""
        if self._active:
            self.fence.check(now=event != "train")
            record = {"event": event, "time": time.time(), **this().as_record(), **json_safe(fields)}
            append_json_line(self._run.metrics_file, record)
            log.info("%s: %s", event, _in_words(fields))
            self._curves.draw(record)

    def before_checkpoint(self) -> None:
        """To be called before a checkpoint gets its name: what was recorded up to its step must not get lost after it.

        Raises:
            SupersededError: A later start of the run has begun, so it must not get its name.
        """
        sync(self._run.metrics_file)
        self.fence.check(now=True)


def _in_words(fields: Mapping[str, Any]) -> str:
    """The scalars of a record, for the log; tables stay in metrics.jsonl."""
    shown = ((name, f"{value:.4g}" if isinstance(value, float) else value) for name, value in fields.items())
    return ", ".join(f"{name} {value}" for name, value in shown if isinstance(value, (str, int)))


def json_safe(value: Any) -> Any:
    """JSON knows neither NaN nor infinity: None stands for both."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(item) for item in value]
    return value
