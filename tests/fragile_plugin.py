"""A model and data sets that get into trouble on one rank, at one step, once they are in a job; see `fragile`."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from segctl_datasets.shapes import Shapes

OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 39.50 GiB of which 1.20 GiB is free."
)


def doze() -> None:
    time.sleep(600)


def doze_with_the_lock() -> None:
    ctypes.PyDLL(None).sleep(600)  # unlike CDLL it does not let go of Python's lock


def out_of_memory() -> None:
    raise torch.OutOfMemoryError(OUT_OF_MEMORY)


def eat() -> None:
    hoard = []
    while True:
        hoard.append(b"x" * 50_000_000)


def broken_gpu() -> None:
    if os.environ["SEGCTL_RESTART"] == "0":  # the next start is on another node
        raise RuntimeError("CUDA error: uncorrectable ECC error encountered")


def full_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def keep_the_interpreter() -> None:
    threading.Thread(target=doze).start()  # Python waits for it before it ends


def mistake() -> None:
    raise RuntimeError("boom")


TROUBLES = {
    "none": lambda: None,
    "raise": mistake,
    "sleep": doze,
    "sleep_with_lock": doze_with_the_lock,
    "segfault": lambda: ctypes.string_at(0),
    "exit": lambda: os._exit(0),
    "leave": lambda: sys.exit(3),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "device_memory": out_of_memory,
    "disk": full_disk,
    "memory": eat,
    "hardware": broken_gpu,
    "linger": keep_the_interpreter,
}


class Fragile(nn.Module):
    def __init__(self, num_classes: int, trouble: str, rank: int, step: int) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, num_classes, 3, padding=1), nn.BatchNorm2d(num_classes))
        self.trouble, self.rank, self.step, self.calls = trouble, rank, step, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        in_a_job = "SEGCTL_ATTEMPT" in os.environ
        if self.training and in_a_job and int(os.environ["RANK"]) == self.rank:
            self.calls += 1
            if self.calls == self.step:
                if "TEST_MOMENT" in os.environ:
                    Path(os.environ["TEST_MOMENT"]).write_text(str(time.time()))
                TROUBLES[self.trouble]()
        logits: torch.Tensor = self.head(images)
        return logits


def fragile(
    num_classes: int,
    *,
    trouble: Literal[
        "none",
        "raise",
        "sleep",
        "sleep_with_lock",
        "segfault",
        "exit",
        "leave",
        "kill",
        "device_memory",
        "disk",
        "memory",
        "hardware",
        "linger",
    ] = "none",
    rank: int = 0,
    step: int = 2,
) -> nn.Module:
    """One convolution that gets into trouble.

    Args:
        trouble: Which.
        rank: Of the process that gets into it.
        step: At which step of that process.
    """
    return Fragile(num_classes, trouble, rank, step)


class PacedShapes(Shapes):
    """Shapes, each of which takes $TEST_PACE seconds: a step lasts as long on an idle machine as on a busy one."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        time.sleep(float(os.environ.get("TEST_PACE", 0)))
        return super().__getitem__(index)


class SlowShapes(Shapes):
    """Shapes, one of which a data worker never gives."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index == 7 and torch.utils.data.get_worker_info() is not None:
            doze()
        return super().__getitem__(index)
