"""The few lines of a record or a log that a cause rests on: pure functions of text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from segctl.runs.blame import Frame, is_own, own_frames
from segctl.runs.fault import HANG

_CHAINED = "The above exception was the direct cause of the following exception:"
_DUMPED = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<function>\S+)')
_CRASH = re.compile(r"^Fatal Python error: ")
_TIMER = re.compile(r"^Timeout \(\d+:\d\d:\d\d")
_FAILED = re.compile(r" ERROR this process failed$")
_HUNG = re.compile(r" ERROR no progress for ")
_SRUN = re.compile(r"^(srun|slurmstepd|slurmd)[^:]*: ")
_FRAMES = 3


def of_record(error: Mapping[str, Any]) -> tuple[str, ...]:
    """The innermost frames of an error record that are not a library's, and what was raised there."""
    traceback = str(error.get("traceback") or "")
    origin = traceback.partition(_CHAINED)[0]  # what our own words were made from
    lines = [_shown(frame) for frame in own_frames(origin)[-_FRAMES:]]
    if error.get("type") == HANG:
        return (*lines, str(error.get("message", "")))
    said = [line for line in origin.strip().splitlines() if line and not line.startswith(" ")][1:]
    return (*lines, *(said[-3:] or [f"{error.get('type')}: {error.get('message')}"]))


def of_log(text: str, count: int = 5) -> tuple[str, ...]:
    """What a rank's log says last: where it crashed or hung, what it did before it raised, or else its last lines.

    Args:
        text: The end of the log.
        count: The most lines that are told of what it did.
    """
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    for place in range(len(lines) - 1, -1, -1):
        line = lines[place]
        if _CRASH.match(line) or _TIMER.match(line):
            return (line, *_dumped(_telling_stack(lines[place + 1 :])))
        if _HUNG.search(line):
            return (line.partition("; the stacks are in")[0], *_dumped(_telling_stack(lines[place + 1 :])))
        if _FAILED.search(line):
            return tuple(lines[max(0, place - count) : place])
    return tuple(lines[-count:])


def of_srun(text: str, count: int = 6) -> tuple[str, ...]:
    """What srun and the nodes' daemons said, the first words first: what follows them are consequences."""
    lines = (line.strip() for line in text.splitlines())
    return tuple(dict.fromkeys(line for line in lines if _SRUN.match(line)))[:count]


def _telling_stack(lines: Sequence[str]) -> Sequence[str]:
    """Of the stacks that faulthandler printed that of the thread that crashed or was asked, else the main one's."""
    heads = [place for place, line in enumerate(lines) if line.endswith("(most recent call first):")]
    if not heads:
        return ()
    head = next((place for place in heads if lines[place].startswith("Current thread")), heads[-1])
    after = next((place for place in heads if place > head), len(lines))
    return lines[head + 1 : after]


def _dumped(lines: Iterable[str]) -> list[str]:
    """The innermost own frames that faulthandler printed, in the order of a traceback."""
    found = (_DUMPED.match(line) for line in lines)
    frames: list[Frame] = [(each["file"], int(each["line"]), each["function"]) for each in found if each]
    own = list(dict.fromkeys(frame for frame in frames if is_own(frame)))
    return [_shown(frame) for frame in (own or frames)[:_FRAMES][::-1]]


def _shown(frame: Frame) -> str:
    file, line, function = frame
    return f"{file}:{line} in {function}"
