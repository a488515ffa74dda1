"""Which rank's word to believe when a job failed.

One rank that raises takes the others down with it: their collectives break, and what they report ("Connection closed by
peer") is a
consequence. So a real exception goes before a rank that was killed or left without a word, and both before such a
consequence; among equals the earliest is the cause.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_CONSEQUENCE_TYPES = frozenset(
    {"DistBackendError", "DistNetworkError", "DistStoreError", "ConnectionResetError", "BrokenPipeError"}
)
_CONSEQUENCE = re.compile(
    r"connection (was )?(closed|reset|aborted)|broken pipe|processgroup|\bgloo\b|nccl (error|communicator|operation)"
    r"|tcpstore|socket (timeout|error|closed)|monitoredbarrier|watchdog",
    re.IGNORECASE,
)
_WAITED = re.compile(r"waited \d+ s for rank 0")
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')
_LONGEST = 300

# What it usually means when the kernel ends a process, by signal: what happened, what to do.
_DEATHS = {
    "SIGKILL": ("most often because the memory of the machine ran out", "Lower --batch-size or train.workers."),
    "SIGBUS": ("most often because shared memory (/dev/shm) is full", "Make /dev/shm larger, or set train.workers=0."),
    "SIGSEGV": (
        "a crash in native code",
        "Look into its log; a broken installation of torch or a driver is a common cause.",
    ),
    "SIGABRT": ("native code gave up", "Look into its log."),
}
_OUT_OF_MEMORY = ("the memory of the machine had run out", _DEATHS["SIGKILL"][1])
_BY_SOMEBODY = ("by hand or by a watchdog; the kernel's out-of-memory killer did not act", "")


@dataclass(frozen=True)
class Blame:
    """Why a job failed, in one line, which rank it was, and what to do (empty: only what always helps)."""

    rank: int | None
    why: str
    hint: str = ""
    rests_on: str = ""


@dataclass(frozen=True)
class Death:
    """A rank that ended by itself without success.

    Attributes:
        rank: Which one.
        code: Exit code; the negative number of the signal that killed it.
        last_line: The last line of its log.
        out_of_memory: Whether the kernel ended processes for want of memory while the job ran; None: not known.
        disk_full: The disk of the run had no room, so that the rank could not leave an error record.
    """

    rank: int
    code: int
    last_line: str = ""
    out_of_memory: bool | None = None
    disk_full: bool = False


def is_consequence(error: Mapping[str, Any]) -> bool:
    """Whether an error record only says that another rank was gone."""
    message = str(error.get("message", ""))
    if error.get("user_error"):
        return bool(_WAITED.search(message))
    return error.get("type") in _CONSEQUENCE_TYPES or bool(_CONSEQUENCE.search(message))


def blame(errors: Iterable[Mapping[str, Any]], deaths: Sequence[Death]) -> Blame | None:
    """The cause among one attempt's error records and the ranks that ended badly (earliest first); None without any."""
    errors = list(errors)
    spoken = {error.get("rank") for error in errors}
    candidates = [(2 if is_consequence(error) else 0, float(error.get("time") or 0), _said(error)) for error in errors]
    silent = enumerate(death for death in deaths if death.rank not in spoken)
    candidates += [(1, float(place), _died(death)) for place, death in silent]
    return min(candidates, key=lambda candidate: candidate[:2])[2] if candidates else None


def _said(error: Mapping[str, Any]) -> Blame:
    rank = error.get("rank")
    lines = str(error.get("message", "")).strip().splitlines()
    first = lines[0][:_LONGEST] if lines else ""
    rests_on = f"errors/rank{rank}.json"
    if error.get("user_error"):
        return Blame(rank, first, str(error.get("hint") or ""), rests_on)
    what = f"{error.get('type', 'Error')}: {first}" if first else str(error.get("type", "Error"))
    where = _where(str(error.get("traceback", "")))
    return Blame(rank, f"{what} (rank {rank}{where})", str(error.get("hint") or ""), rests_on)


def _where(traceback: str) -> str:
    """The innermost frame, outside of installed libraries if there is one: torch's own lines say little."""
    frames = list(_FRAME.finditer(traceback))
    own = [frame for frame in frames if "site-packages" not in frame["file"] and "/lib/python" not in frame["file"]]
    if not frames:
        return ""
    frame = (own or frames)[-1]
    return f", {frame['file'].rsplit('/', 1)[-1]}:{frame['line']} in {frame['function']}"


def _died(death: Death) -> Blame:
    if death.code < 0:
        name = _signal_name(-death.code)
        meaning, hint = _DEATHS.get(name, ("", ""))
        if name == "SIGKILL" and death.out_of_memory is not None:
            meaning, hint = _OUT_OF_MEMORY if death.out_of_memory else _BY_SOMEBODY
        return Blame(
            death.rank, f"rank {death.rank} was killed by {name}{f': {meaning}' if meaning else ''}", hint, "exit codes"
        )
    if death.code == 0:
        return Blame(
            death.rank, f"rank {death.rank} ended without finishing its work, though with exit code 0", "", "exit codes"
        )
    said = f": {death.last_line[:_LONGEST]}" if death.last_line else ""
    full = "; the disk of the run is full" if death.disk_full else ""
    hint = "Free some space on it, then resume the run." if full else ""
    return Blame(death.rank, f"rank {death.rank} ended with exit code {death.code}{said}{full}", hint, "exit codes")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
