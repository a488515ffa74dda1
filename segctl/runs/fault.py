"""What kind of failure an error record or a rank's end is: a pure reading of types, texts and exit codes.

person                  somebody has to change something: any exception of the job, a mistake in data or configuration
out_of_memory_device    the memory of a GPU ran out
out_of_memory_host      the memory of the machine, the limit of the job or shared memory ran out
disk                    a disk is full
killed                  a rank was ended by a signal: by hand, by a watchdog, or native code crashed
hang                    a rank made no progress for `launch.hang_timeout`
nccl                    NCCL failed, and no rank says why
node                    a machine, its GPU, its network or its file system failed

The first four would only happen again. Texts are those of Linux, torch, gloo and NCCL.
"""

from __future__ import annotations

import errno
import re
import signal
from collections.abc import Mapping
from typing import Any, Literal

Fault = Literal[
    "person", "out_of_memory_device", "out_of_memory_host", "disk", "killed", "hang", "nccl", "node"
]  # fmt: skip

NEEDS_A_PERSON: frozenset[Fault] = frozenset({"person", "out_of_memory_device", "out_of_memory_host", "disk"})

HANG = "HangError"  # type of the record of a rank that made no progress; nothing is raised
EXIT_HUNG = 124  # its exit code, as timeout(1) has it

# What ranks report when another one is gone.
_CONSEQUENCE_TYPES = frozenset(
    {"DistBackendError", "DistNetworkError", "DistStoreError", "ConnectionResetError", "BrokenPipeError"}
)
_CONSEQUENCE = re.compile(
    r"connection (was )?(likely )?(closed|reset|aborted)|broken pipe|processgroup|\bgloo\b"
    r"|nccl (error|communicator|operation|watchdog)|\bnccl[A-Z]\w*Error\b|unhandled (system|cuda) error"
    r"|remote process exited or there was a network error|collective operation timeout"
    r"|tcpstore|socket (timeout|error|closed)|client socket has timed out|monitoredbarrier|watchdog",
    re.IGNORECASE,
)
_WAITED = re.compile(r"waited \d+ s for rank 0")
_NCCL = re.compile(r"nccl", re.IGNORECASE)

_DEVICE_MEMORY_TYPES = frozenset({"DeviceMemoryError", "OutOfMemoryError"})
_DEVICE_MEMORY = re.compile(r"(CUDA|HIP|XPU) (error: )?out of memory|CU[A-Z]+_STATUS_ALLOC_FAILED", re.IGNORECASE)
_HOST_MEMORY = re.compile(
    r"can't allocate memory|cannot allocate memory|killed by signal: Killed|unable to (mmap|allocate) .*memory",
    re.IGNORECASE,
)
_SHARED_MEMORY = re.compile(r"shared memory|unable to (write to|open|mmap).* file </torch_|\(shm\)", re.IGNORECASE)
_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_HARDWARE = re.compile(
    r"uncorrectable (ECC|NVLink) error|fallen off the bus|GPU is lost|hardware error|no CUDA-capable device"
    r"|device\(s\) is/are busy or unavailable|CUDA driver initialization failed|stale file handle|remote I/O error"
    r"|transport endpoint is (not connected|shut)",
    re.IGNORECASE,
)
_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
_FILE_SYSTEM_ERRNOS = frozenset(
    getattr(errno, name) for name in ("EIO", "ESTALE", "EREMOTEIO", "ENOTCONN", "ESHUTDOWN") if hasattr(errno, name)
)

# faulthandler ends a process whose watchdog could not run: exit code 1, and this is the last line of the log.
_DUMPED_FRAME = re.compile(r'File ".*", line \d+ in ')


def is_consequence(error: Mapping[str, Any]) -> bool:
    """Whether an error record only says that another rank was gone, or did not come."""
    if error.get("type") == HANG:
        return bool(error.get("waiting"))
    message = str(error.get("message", ""))
    if error.get("user_error"):
        return bool(_WAITED.search(message))
    return error.get("type") in _CONSEQUENCE_TYPES or bool(_CONSEQUENCE.search(message))


def of_error(error: Mapping[str, Any]) -> Fault:
    """What kind of failure an error record tells of."""
    kind, message = str(error.get("type", "")), str(error.get("message", ""))
    if kind == HANG:
        return "hang"
    if kind in _DEVICE_MEMORY_TYPES or _DEVICE_MEMORY.search(message):
        return "out_of_memory_device"
    if kind == "MemoryError" or _HOST_MEMORY.search(message) or shared_memory(message):
        return "out_of_memory_host"
    if kind == "DiskFullError" or error.get("errno") in _FULL_ERRNOS or _FULL.search(message):
        return "disk"
    if is_consequence(error):
        return "nccl" if _NCCL.search(message) else "node"
    if error.get("errno") in _FILE_SYSTEM_ERRNOS or _HARDWARE.search(message):
        return "node"
    return "person"


def shared_memory(message: str) -> bool:
    """Whether a message means that /dev/shm is too small, through which data workers send their samples."""
    return _SHARED_MEMORY.search(message) is not None


def unwrapped(code: int) -> int:
    """The code of a process as its parent has it, where a shell or a container has made 128 + 9 of signal 9."""
    return 128 - code if 128 < code <= 128 + signal.NSIG else code


def of_end(code: int, *, out_of_memory: bool | None = None, disk_full: bool = False, last_line: str = "") -> Fault:
    """What kind of failure it is that a rank ended without a record.

    Args:
        code: Exit code; the negative number of the signal that killed it.
        out_of_memory: Whether memory ran out meanwhile; None: not known.
        disk_full: The disk of the run has no room.
        last_line: Of its log.
    """
    if code == EXIT_HUNG or (code == 1 and _DUMPED_FRAME.match(last_line)):
        return "hang"
    code = unwrapped(code)
    if code < 0:
        starved = code == -signal.SIGKILL and out_of_memory
        return "out_of_memory_host" if starved or code == -signal.SIGBUS else "killed"
    if disk_full:
        return "disk"
    return of_error({"type": last_line.partition(":")[0], "message": last_line})
