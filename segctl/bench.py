"""`segctl bench`: how fast models are and what they need, beside a plain model of torchvision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from segctl import bridge
from segctl.config.load import resolve_model
from segctl.errors import ConfigError
from segctl.plugin import SMALLEST_SIDE

__all__ = ["Benchmark", "BenchmarkedModel", "bench"]

YARDSTICK = "fcn_resnet50"


@dataclass(frozen=True)
class BenchmarkedModel:
    """What was measured of one model.

    Attributes:
        name: The plugin's name, or torchvision's.
        options: All options of the plugin.
        yardstick: It is torchvision's, which the others are compared with.
        parameters: All, those of auxiliary heads too.
        gflops: 10^9 operations of one image's forward pass in evaluation, a multiply-add counted as two: convolutions,
            matrix products and attention. None where they cannot be counted.
        forward: Images per second in evaluation, the median of repeated blocks.
        forward_ratio: Over the yardstick's, the median of pairs of blocks that were timed one after the other.
        training: Images per second of forward, loss, backward and optimizer.
        training_ratio: As `forward_ratio`.
        forward_memory: Bytes at the peak, the weights too: on a GPU what torch's allocator held, on a CPU by how much
            the resident set of a process of its own grew (by that of the compiler too, with `torch.compile`).
        training_memory: The same in training.
    """

    name: str
    options: Mapping[str, Any]
    yardstick: bool
    parameters: int
    gflops: float | None
    forward: float
    forward_ratio: float
    training: float
    training_ratio: float
    forward_memory: int
    training_memory: int


@dataclass(frozen=True)
class Benchmark:
    """Models and under what they were measured.

    Attributes:
        models: The yardstick, then the models in the order in which they were named.
        device: ``"cpu"`` or ``"cuda"``.
        device_name: Which.
        threads: Of torch, on a CPU.
        size: Height and width of the images.
        batch_size: Images at a time.
        num_classes: Classes to tell apart.
        amp: With bf16 autocast.
        compile: With `torch.compile`.
        channels_last: With weights and images in that order in memory, as a job has them; contiguous in bf16 on a CPU.
        torch: Its version.
    """

    models: tuple[BenchmarkedModel, ...]
    device: str
    device_name: str
    threads: int | None
    size: tuple[int, int]
    batch_size: int
    num_classes: int
    amp: bool
    compile: bool
    channels_last: bool
    torch: str


def bench(
    models: Sequence[str],
    *,
    options: Mapping[str, Any] | None = None,
    size: tuple[int, int] = (512, 1024),
    batch_size: int = 1,
    num_classes: int = 19,
    device: str | None = None,
    amp: bool = False,
    compile: bool = False,
    yardstick: str = YARDSTICK,
    seconds: float = 0.5,
    on_progress: Callable[[str], None] | None = None,
) -> Benchmark:
    """Measures models: throughput forward and in training, peak memory, parameters and operations.

    Args:
        models: Names of model plugins.
        options: Options for all of them; strings are read as on the command line.
        size: Height and width of the images.
        batch_size: Images at a time.
        num_classes: Classes to tell apart.
        device: ``"cpu"`` or ``"cuda"``; default: a GPU if there is one.
        amp: With bf16 autocast.
        compile: With `torch.compile`.
        yardstick: The segmentation model of torchvision that is measured in turn with each.
        seconds: How long a timed block lasts at least; there are five of each kind.
        on_progress: Called with what is being done, in a few words.

    Raises:
        ConfigError: An argument is not acceptable, or there is no such device here.
        PluginError: There is no such model, or it fails.
        LaunchError: There is too little memory, or it cannot be compiled here.
    """
    if not models:
        raise ConfigError("No model was named.", "'segctl plugins list models' lists them.")
    if min(size) < SMALLEST_SIDE:
        raise ConfigError(f"size: {size[0]}x{size[1]} is less than {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels.")
    for name, value in (("batch_size", batch_size), ("num_classes", num_classes), ("seconds", seconds)):
        if not value > 0:
            raise ConfigError(f"{name}: {value} is not above 0.")
    if not isfinite(seconds):
        raise ConfigError(f"seconds: {seconds} is not a finite number.")
    flags = {f"model.{name}": value for name, value in (options or {}).items()}
    plugins = [resolve_model({"model": name, **flags}) for name in dict.fromkeys(models)]
    chosen, outcome = bridge.bench(
        plugins,
        yardstick,
        device,
        {
            "size": tuple(size),
            "batch_size": batch_size,
            "num_classes": num_classes,
            "amp": amp,
            "compile": compile,
            "seconds": seconds,
        },
        on_progress or (lambda doing: None),
    )
    return Benchmark(
        models=tuple(_of(each) for each in outcome.measured),
        device=chosen,
        device_name=outcome.device,
        threads=outcome.threads,
        size=size,
        batch_size=batch_size,
        num_classes=num_classes,
        amp=amp,
        compile=compile,
        channels_last=outcome.channels_last,
        torch=outcome.torch,
    )


def _of(measured: Any) -> BenchmarkedModel:
    subject = measured.subject
    return BenchmarkedModel(
        name=subject.plugin.name,
        options=dict(subject.plugin.options),
        yardstick=subject.torchvision,
        parameters=measured.parameters,
        gflops=None if measured.flops is None else measured.flops / 1e9,
        forward=measured.forward.images_per_second,
        forward_ratio=measured.forward.ratio,
        training=measured.training.images_per_second,
        training_ratio=measured.training.ratio,
        forward_memory=measured.memory.forward,
        training_memory=measured.memory.training,
    )
