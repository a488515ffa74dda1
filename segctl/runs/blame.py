"""Which rank's word to believe when a job failed.

One rank that raises takes the others down with it: their collectives break, and what they report ("Connection closed by
peer") is a consequence. So a real exception goes before a rank that was killed or left without a word, that before one
that hung by itself, that before those that waited for it in a collective, and all before a broken connection; among
equals the earliest is the cause.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segctl.errors import listing
from segctl.runs.fault import HANG, Fault, is_consequence, of_end, of_error, shared_memory, unwrapped

__all__ = [
    "Blame",
    "Death",
    "Frame",
    "blame",
    "is_consequence",
    "is_own",
    "own_frames",
    "signal_name",
]

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')
# Lines of Python and of the libraries below a job say little; a plugin's are telling wherever it is installed.
_LIBRARY = re.compile(
    r"^<|/lib/python[\d.]+/(?!(site|dist)-packages/)"
    r"|/(site|dist)-packages/(torch|torchvision|torchgen|numpy|PIL|submitit|pydantic|yaml|functorch|triton)(/|\.py$)"
)
_LONGEST = 300

Frame = tuple[str, int, str]  # file, line, function

_MEMORY_HINT = "Lower --batch-size or train.workers."
_SHARED_MEMORY_HINT = "Make /dev/shm larger, or set train.workers=0."
# What it usually means when the kernel ends a process, by signal: what happened, what to do.
_DEATHS = {
    "SIGKILL": ("most often because the memory of the machine ran out", _MEMORY_HINT),
    "SIGBUS": ("most often because shared memory (/dev/shm) is full", _SHARED_MEMORY_HINT),
    "SIGSEGV": (
        "a crash in native code",
        "Look into its log; a broken installation of torch or a driver is a common cause.",
    ),
    "SIGABRT": ("native code gave up", "Look into its log."),
}
_OUT_OF_MEMORY = ("the memory of the machine had run out", _MEMORY_HINT)
_BY_SOMEBODY = ("by hand or by a watchdog; the kernel's out-of-memory killer did not act", "")

# For what says nothing about the way out itself.
_HINTS: Mapping[Fault, str] = {
    "out_of_memory_device": "Use smaller parts of the same batch: --set train.accumulate=2, or more GPUs.",
    "out_of_memory_host": _MEMORY_HINT,
    "disk": "Free some space on it, then resume the run.",
    "nccl": "NCCL_DEBUG=INFO in the job's environment makes it say more; often NCCL_SOCKET_IFNAME has to name the "
    "network that the nodes share, or NCCL_IB_DISABLE=1 helps where InfiniBand does not work.",
}


@dataclass(frozen=True)
class Blame:
    """Why a job failed, in one line, which rank it was, and what to do (empty: only what always helps)."""

    rank: int | None
    why: str
    hint: str = ""
    rests_on: str = ""
    host: str = ""
    fault: Fault = "person"


@dataclass(frozen=True)
class Death:
    """A rank that ended by itself without success.

    Attributes:
        rank: Which one.
        code: Exit code; the negative number of the signal that killed it.
        last_line: The last line of its log.
        out_of_memory: Whether the kernel ended processes for want of memory while the job ran; None: not known.
        disk_full: The disk of the run had no room, so that the rank could not leave an error record.
        host: Where it ran; empty where that was not recorded.
    """

    rank: int
    code: int
    last_line: str = ""
    out_of_memory: bool | None = None
    disk_full: bool = False
    host: str = ""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Death:
        """As supervisor.json has it."""
        return cls(
            rank=int(record.get("rank", 0)),
            code=int(record.get("code", 1)),
            last_line=str(record.get("last_line") or ""),
            out_of_memory=record.get("out_of_memory"),
            disk_full=bool(record.get("disk_full")),
            host=str(record.get("host") or ""),
        )

    @property
    def fault(self) -> Fault:
        return of_end(self.code, out_of_memory=self.out_of_memory, disk_full=self.disk_full, last_line=self.last_line)


def blame(errors: Iterable[Mapping[str, Any]], deaths: Sequence[Death]) -> Blame | None:
    """The cause among one attempt's error records and the ranks that ended badly (earliest first); None without any."""
    errors = list(errors)
    spoken = {error.get("rank") for error in errors}
    silent = [death for death in deaths if death.rank not in spoken]
    candidates = [(_weight(error), _moment(error), _said(error)) for error in errors]
    candidates += [(_weight_of_death(death), float(place), _died(death)) for place, death in enumerate(silent)]
    if not candidates:
        return None
    weight, _, found = min(candidates, key=lambda candidate: candidate[:2])
    return (_absent(errors, silent) or found) if weight == _WAITING else found


_RAISED, _DIED, _HUNG, _WAITING, _CONSEQUENCE = range(5)


def _weight(error: Mapping[str, Any]) -> int:
    if error.get("type") == HANG:
        return _WAITING if is_consequence(error) else _HUNG
    return _CONSEQUENCE if is_consequence(error) else _RAISED


def _weight_of_death(death: Death) -> int:
    if death.fault == "hang":
        return _HUNG
    return _CONSEQUENCE if is_consequence({"message": death.last_line}) else _DIED


def _moment(error: Mapping[str, Any]) -> float:
    """When a rank failed; of one that hung, when it last made progress."""
    return float(error.get("since") or error.get("time") or 0)


def _said(error: Mapping[str, Any]) -> Blame:
    rank, host, fault = error.get("rank"), str(error.get("host") or ""), of_error(error)
    lines = str(error.get("message", "")).strip().splitlines()
    first = lines[0][:_LONGEST] if lines else ""
    rests_on = f"errors/rank{rank}.json"
    hint = str(error.get("hint") or "")
    if error.get("user_error"):
        return Blame(rank, first, hint, rests_on, host, fault)
    default = _SHARED_MEMORY_HINT if shared_memory(first) else _HINTS.get(fault, "")
    who = f"rank {rank}{f' on {host}' if host else ''}"
    if error.get("type") == HANG:
        return Blame(rank, f"{first} ({who})", hint, rests_on, host, fault)
    what = f"{error.get('type', 'Error')}: {first}" if first else str(error.get("type", "Error"))
    where = _where(str(error.get("traceback", "")))
    alone = "; no rank says why" if is_consequence(error) else ""
    return Blame(rank, f"{what} ({who}{where}{alone})", hint or default, rests_on, host, fault)


def _frames(traceback: str) -> list[Frame]:
    """Each frame of a printed traceback, outermost first."""
    return [(found["file"], int(found["line"]), found["function"]) for found in _FRAME.finditer(traceback)]


def own_frames(traceback: str) -> list[Frame]:
    """Those of segctl, of plugins and of the user."""
    return [frame for frame in _frames(traceback) if is_own(frame)]


def is_own(frame: Frame) -> bool:
    return not _LIBRARY.search(frame[0])


def _where(traceback: str) -> str:
    """The innermost frame, outside of the libraries below a job if there is one: torch's own lines say little."""
    found = own_frames(traceback) or _frames(traceback)
    if not found:
        return ""
    file, line, function = found[-1]
    return f", {file.rsplit('/', 1)[-1]}:{line} in {function}"


def _absent(errors: Sequence[Mapping[str, Any]], silent: Sequence[Death]) -> Blame | None:
    """When all who spoke waited in a collective: the ranks that they waited for, if some left no word at all."""
    waiting = [error for error in errors if error.get("type") == HANG]
    size = max(int(error.get("world_size") or 0) for error in waiting)
    known = {error.get("rank") for error in errors} | {death.rank for death in silent}
    missing = [rank for rank in range(size) if rank not in known]
    if not missing:
        return None
    first = min(waiting, key=_moment)
    several = len(missing) > 1
    which = f"rank{'s' if several else ''} {listing(map(str, missing[:8]))}{' and more' if len(missing) > 8 else ''}"
    what = str(first.get("message", "")).partition(", in ")[0]
    why = f"{what}: the others waited for {which}, which left no word"
    return Blame(missing[0], why, "", f"errors/rank{first.get('rank')}.json", "", "hang")


def _died(death: Death) -> Blame:
    code = unwrapped(death.code)
    who = f"rank {death.rank}{f' on {death.host}' if death.host else ''}"

    def blamed(why: str, hint: str = "") -> Blame:
        return Blame(death.rank, f"{who} {why}", hint, "exit codes", death.host, death.fault)

    if death.fault == "hang":
        return blamed("made no progress for launch.hang_timeout and was ended; it could not say more")
    if code < 0:
        name = signal_name(-code)
        meaning, hint = _DEATHS.get(name, ("", ""))
        if name == "SIGKILL" and death.out_of_memory is not None:
            meaning, hint = _OUT_OF_MEMORY if death.out_of_memory else _BY_SOMEBODY
        return blamed(f"was killed by {name}{f': {meaning}' if meaning else ''}", hint)
    if code == 0:
        return blamed("ended without finishing its work, though with exit code 0")
    said = f": {death.last_line[:_LONGEST]}" if death.last_line else ""
    full = "; the disk of the run is full" if death.disk_full else ""
    return blamed(f"ended with exit code {code}{said}{full}", _HINTS.get(death.fault, ""))


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
