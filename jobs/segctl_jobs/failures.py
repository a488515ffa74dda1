"""What torch and Python raise when a resource runs out, in the words of a person who has to do something about it."""

from __future__ import annotations

import errno
import math
import os
import re
from pathlib import Path

from segctl.config.schema import Config
from segctl.errors import DeviceMemoryError, DiskFullError, LaunchError, SegctlError
from segctl.runs.fault import of_error
from segctl.runs.run import Run

__all__ = ["explained", "next_accumulate", "parts_of_a_step"]

_CAPACITY = re.compile(r"total capacity of ([\d.]+ [KMG]iB)")


def explained(error: Exception, run: Run, config: Config, world_size: int, *, training: bool) -> Exception:
    """`error` itself, or what it means where it says that a GPU's memory or a disk is full, or of the compiler.

    Args:
        run: The job's.
        config: Its configuration.
        world_size: How many processes there are.
        training: It was raised while training, not evaluating.
    """
    if isinstance(error, SegctlError):
        return error
    if of_error({"type": type(error).__name__, "message": str(error)}) == "out_of_memory_device":
        return device_memory(str(error), run, config, world_size, training=training)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _disk_full(error, run)
    if training and type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
        reason = next(iter(str(error).strip().splitlines()), "no message")
        return LaunchError(
            f"Model {config.model.name} cannot be compiled here: {type(error).__name__}: {reason}.",
            f"Without torch.compile: 'segctl train {run.config_file} --set train.compile=false'.",
        )
    return error


def device_memory(message: str, run: Run, config: Config, world_size: int, *, training: bool) -> DeviceMemoryError:
    """What did not fit into a GPU, and how it would.

    Args:
        message: Of the error of torch.
        training: As for `explained`.
    """
    capacity = _CAPACITY.search(message)
    memory = f"The memory of the GPU{f' ({capacity[1]})' if capacity else ''} does not suffice"
    if not training:
        return DeviceMemoryError(
            f"{memory} for the evaluation.",
            f"Lower eval.max_pixels (it is {config.eval.max_pixels}), or use eval.mode slide with a smaller window.",
        )
    anew = f"segctl train {run.config_file}"
    training = config.train
    images, _ = parts_of_a_step(training.batch_size, training.accumulate, world_size)
    crop = config.augment.crop
    size = "" if crop is None else " of {}x{}".format(*((crop, crop) if isinstance(crop, int) else crop))
    share = (
        f"train.batch_size {training.batch_size}, {world_size} process{'es' if world_size > 1 else ''}, "
        f"train.accumulate {training.accumulate}"
    )
    what = f"{memory} for {images} image{'s' if images > 1 else ''}{size} at a time ({share})."
    better = next_accumulate(training.batch_size, training.accumulate, world_size)
    if better is None:
        return DeviceMemoryError(what, f"Use smaller crops (augment.crop), or a smaller model: '{anew} --set ...'.")
    fewer, _ = parts_of_a_step(training.batch_size, better, world_size)
    return DeviceMemoryError(
        what,
        f"The same batch in parts of {fewer}: '{anew} --set train.accumulate={better}'. Or use more GPUs "
        f"('segctl resume {run.id} --gpus N'), or smaller crops (augment.crop).",
    )


def parts_of_a_step(batch_size: int, accumulate: int, world_size: int) -> tuple[int, int]:
    """The most samples that a process holds at once, and the number of such parts that make up its step."""
    parts = max(1, min(accumulate, batch_size // world_size))
    return math.ceil(math.ceil(batch_size / world_size) / parts), parts


def next_accumulate(batch_size: int, accumulate: int, world_size: int) -> int | None:
    """The next larger `train.accumulate` that lets each process hold fewer samples at once; None: there is none.

    One by which all shares of the batch divide, where there is one: all parts are then equal.
    """
    share, now = batch_size // world_size, parts_of_a_step(batch_size, accumulate, world_size)[0]
    smaller = [
        parts for parts in range(accumulate + 1, share + 1) if parts_of_a_step(batch_size, parts, world_size)[0] < now
    ]
    even = [parts for parts in smaller if batch_size % (world_size * parts) == 0]
    return min(even or smaller, default=None)


def _disk_full(error: OSError, run: Run) -> DiskFullError:
    """The run's own disk is named by the run; any other by the file that found no room."""
    path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else None
    place, shown = (
        (f"the disk of {path}", "")
        if path and not path.is_relative_to(run.path)
        else ("the disk of the run", f": {run.path}")
    )
    what = f"Your quota on {place} is used up" if error.errno == errno.EDQUOT else f"T{place[1:]} is full"
    return DiskFullError(f"{what}{shown}.", f"Free some space there, then 'segctl resume {run.id}' goes on.")
