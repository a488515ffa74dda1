"""A process by more than its number: numbers are used again, start times on one boot of one machine are not."""

from __future__ import annotations

import functools
import os
import pwd
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ProcessId:
    """What stays true of one process for ever.

    Attributes:
        host: Name of its machine.
        namespace: Its process-number namespace: in another container the same number is another process.
        pid: Process number.
        started: Boot of the machine and clock ticks from there to the start of the process.
    """

    host: str
    namespace: str
    pid: int
    started: str

    def as_record(self) -> dict[str, Any]:
        return {"host": self.host, "pid": self.pid, "pid_started": self.started, "pid_namespace": self.namespace}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ProcessId | None:
        """None where the record names no process (yet)."""
        pid, started = record.get("pid"), record.get("pid_started")
        if not isinstance(pid, int) or not isinstance(started, str):
            return None
        return cls(str(record.get("host", "")), str(record.get("pid_namespace", "")), pid, started)


def identify(pid: int) -> ProcessId | None:
    """The process that has this number now, or None."""
    started = _started(pid)
    return None if started is None else ProcessId(hostname(), _namespace(), pid, f"{_boot()}/{started}")


def alive(process: ProcessId) -> bool | None:
    """Whether that very process still runs; None where it cannot be seen from here (another host or container)."""
    if process.host != hostname():
        return None
    boot, _, started = process.started.rpartition("/")
    if boot != _boot():
        return False
    if process.namespace != _namespace():
        return None
    now = _started(process.pid)
    if now is not None:
        return now == started
    return None if _hidden(process.pid) else False


def send(process: ProcessId, signum: int) -> bool:
    """Sends a signal to that very process, never to a later one with its number; False where it has ended.

    Raises:
        PermissionError: It belongs to another user.
    """
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    except (AttributeError, OSError):  # not Linux, or an old one
        if alive(process) is True:
            os.kill(process.pid, signum)
            return True
        return False
    try:
        # From here on the handle means one process; whether it is the right one can be looked up without haste.
        if alive(process) is not True:
            return False
        signal.pidfd_send_signal(handle, signum)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def hostname() -> str:
    return os.uname().nodename


def user_name() -> str:
    """The user this process belongs to; in a container without a name for it, the number."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _started(pid: int) -> str | None:
    """Start of a living process in clock ticks since boot; None for none, and for one that only waits to be buried."""
    if not sys.platform.startswith("linux"):
        return _started_elsewhere(pid)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The second field is the command in parentheses and may hold anything.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return None if fields[0] in (b"Z", b"X") else fields[19].decode()


def _started_elsewhere(pid: int) -> str | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return None


def _hidden(pid: int) -> bool:
    """Whether the process exists though /proc does not show it (mounted with hidepid, another user's)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return not Path(f"/proc/{pid}").exists()
    except OSError:
        return False
    return False


@functools.cache
def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


@functools.cache
def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
