"""Peak memory of a model, each measured in a process of its own: what another one left behind would count too.

On a GPU it is what torch's allocator held at most. On a CPU it is by how much the resident set grew since just before
the model was made, when torch, the plugin and the numerical libraries were loaded and had run once.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segctl import errors
from segctl.config.schema import Plugin
from segctl.errors import LaunchError, SegctlError
from segctl_jobs.bench.subject import Session, Setting, Subject, blaming, out_of_memory

_CHILD = (
    "import json, sys; given = json.load(sys.stdin); sys.path[:] = given.pop('path'); "
    "from segctl_jobs.bench.memory import _measure_here; _measure_here(given, sys.argv[1])"
)
_PASSES = 2  # the second training step has weights, gradients, momenta and activations at the same time


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of forward passes in evaluation, and of training steps; both with the model itself."""

    forward: int
    training: int


def peak_memory(subject: Subject, setting: Setting) -> Memory:
    """Measures `subject` in a fresh process.

    Raises:
        SegctlError: As `blaming` has it.
    """
    given = {"path": sys.path, "plugin": subject.plugin.model_dump(), "torchvision": subject.torchvision}
    with tempfile.TemporaryDirectory(prefix="segctl-") as folder:
        answer = Path(folder, "answer.json")
        command = [sys.executable, "-c", _CHILD, str(answer)]
        text = json.dumps({**given, "setting": asdict(setting)})
        done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
        found: dict[str, Any] = json.loads(answer.read_text("utf-8")) if answer.is_file() else {}
    if "memory" in found:
        return Memory(**found["memory"])
    if "error" in found:
        raise getattr(errors, found["error"], SegctlError)(found["message"], found["hint"])
    if done.returncode == -signal.SIGKILL:  # what the system does to who takes the last of the memory
        raise out_of_memory(subject, setting)
    said = done.stderr.strip().splitlines()
    raise LaunchError(
        f"The process that measures the memory of the {subject} ended with exit code {done.returncode}: "
        f"{said[-1] if said else 'it said nothing'}."
    )


def _measure_here(given: dict[str, Any], answer: str) -> None:
    """What the process does: measures, and writes the figures or the reason why there are none."""
    setting = Setting(**{**given["setting"], "size": tuple(given["setting"]["size"])})
    subject = Subject(Plugin.model_validate(given["plugin"]), given["torchvision"])
    try:
        with blaming(subject, setting):
            found: dict[str, Any] = {"memory": asdict(_measure(subject, setting))}
    except SegctlError as error:
        found = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    Path(answer).write_text(json.dumps(found), encoding="utf-8")


def _measure(subject: Subject, setting: Setting) -> Memory:
    subject.load()
    subject.create_loss(setting.num_classes)
    _run_once(torch.device(setting.device))
    peak = _allocated() if setting.device == "cuda" else _resident()
    session = Session(subject, setting)
    forward, training = (_peak_of(session, step, peak) for step in (session.forward, session.training))
    return Memory(forward, training)


def _peak_of(session: Session, step: Callable[[], None], peak: Callable[[], int]) -> int:
    for _ in range(_PASSES):
        step()
    session.synchronise()
    return peak()


def _run_once(device: torch.device) -> None:
    """Has the libraries that any model needs load what they load on first use."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.randn(2, 3, 16, 16, device=device)).mean().backward()
    optimizer.step()


def _allocated() -> Callable[[], int]:
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.max_memory_allocated


def _resident() -> Callable[[], int]:
    with contextlib.suppress(OSError):  # Linux: begin a new high-water mark
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _high_water_mark()
    return lambda: _high_water_mark() - before


def _high_water_mark() -> int:
    """Bytes that this process had resident at most."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not getrusage here: on Linux it goes on from the process that started this one.
        return 1024 * int(_field(status.read_text("utf-8").splitlines(), "VmHWM:"))
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _field(lines: Sequence[str], name: str) -> str:
    return next(line.split()[1] for line in lines if line.startswith(name))
