"""How work in several threads is asked to end: a flag, looked at between two pieces of work."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Stop", "StoppedError"]


class StoppedError(Exception):
    """The download was asked to end; what is on disk stays, and the next call goes on from there."""


class Stop:
    """The flag.

    Args:
        asked: Says from outside whether to end, such as a job's signal; looked at with each check.
    """

    def __init__(self, asked: Callable[[], object] = lambda: None) -> None:
        self._event = threading.Event()
        self._asked = asked

    def set(self) -> None:
        self._event.set()

    def check(self) -> None:
        """Raises StoppedError where the end was asked for."""
        if self._event.is_set() or self._asked():
            self._event.set()
            raise StoppedError

    def sleep(self, seconds: float) -> None:
        """Waits, but no longer than until the end is asked for.

        Raises:
            StoppedError: It was.
        """
        left = seconds
        while left > 0:
            self.check()
            self._event.wait(min(left, 1.0))
            left -= 1.0
        self.check()
