"""Measures models beside a yardstick, in turn: a machine that is slower for a while is so for both."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from segctl.config.schema import Plugin
from segctl.errors import ConfigError
from segctl_jobs.bench.flops import forward_flops, shapes_only
from segctl_jobs.bench.memory import Memory, peak_memory
from segctl_jobs.bench.subject import Session, Setting, Subject, blaming, torchvision_subject

KINDS = ("forward", "training")  # methods of `Session`
BLOCKS = 5
WARM_UP = 2  # steps before the first timed one


@dataclass(frozen=True)
class Speed:
    """Images per second, the median of all blocks; and over the yardstick's, the median of the pairs."""

    images_per_second: float
    ratio: float


@dataclass(frozen=True)
class Measured:
    """What was found of one model.

    Attributes:
        parameters: All of them, those of auxiliary heads too.
        flops: Of one image's forward pass in evaluation; None where the model cannot be run without numbers.
    """

    subject: Subject
    parameters: int
    flops: int | None
    forward: Speed
    training: Speed
    memory: Memory


@dataclass(frozen=True)
class Outcome:
    """The yardstick first, then the models in their order; on which device, with how many threads (CPU), and in which
    order in memory.
    """

    measured: tuple[Measured, ...]
    device: str
    threads: int | None
    channels_last: bool
    torch: str


def bench(plugins: Sequence[Plugin], yardstick: str, setting: Setting, on_progress: Callable[[str], None]) -> Outcome:
    """Measures each of the models `plugins` in turn with the model `yardstick` of torchvision.

    Args:
        on_progress: Called with what is being done, in a few words.

    Raises:
        SegctlError: A model cannot be made, fails, or needs more memory than there is.
    """
    standard = torchvision_subject(yardstick)
    if setting.device == "cuda":
        device, threads = torch.cuda.get_device_name(), None
    else:
        device, threads = _processor(), torch.get_num_threads()
    measured = _measure([Subject(plugin) for plugin in plugins], standard, setting, on_progress)
    return Outcome(measured, device, threads, setting.layout is torch.channels_last, torch.__version__)


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def choose_device(device: str | None) -> str:
    """The device to measure on: the one that was asked for, or a GPU if there is one.

    Raises:
        ConfigError: There is no such device here.
    """
    if device not in (None, "cpu", "cuda"):
        raise ConfigError(f"device: {device!r} is neither cpu nor cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: torch sees no GPU here.", "Use cpu.")
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def _measure(
    subjects: Sequence[Subject], yardstick: Subject, setting: Setting, on_progress: Callable[[str], None]
) -> tuple[Measured, ...]:
    memories = []
    for subject in (*subjects, yardstick):
        on_progress(f"Measuring the memory of {subject.plugin.name}")
        memories.append(peak_memory(subject, setting))
    with blaming(yardstick, setting):
        standard = Session(yardstick, setting)
    theirs: dict[str, list[float]] = {kind: [] for kind in KINDS}
    found = []
    for subject, memory in zip(subjects, memories[:-1], strict=True):
        with blaming(subject, setting):
            session = Session(subject, setting)
        speeds = {}
        for kind in KINDS:
            on_progress(f"Timing {subject.plugin.name}, {kind}")
            pairs = _in_turn([(yardstick, standard), (subject, session)], kind, setting)
            theirs[kind] += [one for one, _ in pairs]
            speeds[kind] = Speed(
                statistics.median(other for _, other in pairs), statistics.median(other / one for one, other in pairs)
            )
        found.append(_measured(subject, setting, session, speeds, memory))
    own = {kind: Speed(statistics.median(theirs[kind]), 1.0) for kind in KINDS}
    return (_measured(yardstick, setting, standard, own, memories[-1]), *found)


def _in_turn(sessions: Sequence[tuple[Subject, Session]], kind: str, setting: Setting) -> list[tuple[float, ...]]:
    """Images per second of each, block by block."""
    blocks = []
    for subject, session in sessions:
        with blaming(subject, setting):
            blocks.append(_block(session, getattr(session, kind), setting))
    return [tuple(block() for block in blocks) for _ in range(BLOCKS)]


def _block(session: Session, step: Callable[[], None], setting: Setting) -> Callable[[], float]:
    """Warms up, and gives what times as many steps as fill `setting.seconds`."""
    for _ in range(WARM_UP):
        step()
    alone = _seconds(session, step, 1)
    steps = max(1, round(setting.seconds / alone))
    return lambda: steps * setting.batch_size / _seconds(session, step, steps)


def _seconds(session: Session, step: Callable[[], None], steps: int) -> float:
    session.synchronise()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    session.synchronise()
    return time.perf_counter() - start


def _measured(
    subject: Subject, setting: Setting, session: Session, speeds: dict[str, Speed], memory: Memory
) -> Measured:
    return Measured(
        subject=subject,
        parameters=sum(parameter.numel() for parameter in session.model.parameters()),
        flops=_flops(subject, setting),
        forward=speeds["forward"],
        training=speeds["training"],
        memory=memory,
    )


def _flops(subject: Subject, setting: Setting) -> int | None:
    try:
        with shapes_only(lambda: subject.create(setting.num_classes)) as model:
            return forward_flops(model, setting.size)
    except Exception:  # a model that looks at its numbers is slower to count than it is worth
        return None
