"""Waiting for what comes by itself."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class SlurmError(AssertionError):
    """A command of SLURM's failed, or what was waited for did not come."""


class GoneError(SlurmError):
    """What is waited for will not come any more."""


def until(look: Callable[[], T], seconds: float, what: str) -> T:
    """The first true answer of `look`; SlurmError when there is none in time, or a GoneError of `look`.

    A command of SLURM's that fails in `look` is asked again: on a busy machine slurmctld may not answer in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = look()
            seen = repr(answer)
        except GoneError:
            raise
        except SlurmError as error:
            answer, seen = None, str(error)
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise SlurmError(f"waited {seconds:g} s for {what}; the last look gave {seen}")
        time.sleep(0.05)


def accepts(address: Path | int) -> bool:
    """Whether somebody listens at a socket or at a local port."""
    with socket.socket(socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET) as line:
        line.settimeout(5)
        return line.connect_ex(str(address) if isinstance(address, Path) else ("127.0.0.1", address)) == 0
