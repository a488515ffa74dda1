"""Signals to the process that carries a job out, as messages; and how long its ranks have to heed one."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from types import FrameType

STOP_GRACE = 60.0  # seconds to save a checkpoint; $SEGCTL_STOP_GRACE


class Inbox:
    """Signals as messages: each wakes the loop, none interrupts it."""

    def __init__(self) -> None:
        self._reader, writer = os.pipe()
        for end in (self._reader, writer):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._requests: list[str] = []
        for signum in (signal.SIGTERM, signal.SIGUSR2, signal.SIGCHLD):
            signal.signal(signum, self._note)
        for signum in (signal.SIGHUP, signal.SIGINT):
            signal.signal(signum, signal.SIG_IGN)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if signum != signal.SIGCHLD:
            self._requests.append(signal.Signals(signum).name)

    def wait(self, seconds: float) -> None:
        """Returns after so many seconds, or as soon as a signal has come."""
        if not self._requests:
            select.select([self._reader], [], [], max(0.0, seconds))
        with contextlib.suppress(BlockingIOError):
            while os.read(self._reader, 4096):
                pass

    def take(self) -> list[str]:
        taken, self._requests = self._requests, []
        return taken


def stop_grace() -> float:
    """Seconds that ranks are given to save a checkpoint."""
    try:
        return max(0.0, float(os.environ.get("SEGCTL_STOP_GRACE", STOP_GRACE)))
    except ValueError:
        return STOP_GRACE
