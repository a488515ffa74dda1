"""``segctl bench``."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from segctl.cli import options, output
from segctl.cli.options import HOW, WHAT
from segctl.cli.table import Column, Row, table
from segctl.errors import ConfigError

if TYPE_CHECKING:
    from segctl.bench import Benchmark, BenchmarkedModel

Models = Annotated[list[str], typer.Argument(metavar="MODEL...", help="Model plugins.", show_default=False)]
Size = Annotated[
    str, typer.Option("--size", metavar="HxW", help="Height and width of the images.", rich_help_panel=HOW)
]
Batch = Annotated[
    int, typer.Option("--batch", "--batch-size", metavar="N", min=1, help="Images at a time.", rich_help_panel=HOW)
]
NumClasses = Annotated[
    int, typer.Option("--num-classes", metavar="N", min=1, help="Classes to tell apart.", rich_help_panel=HOW)
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="DEVICE", help="cpu or cuda. Default: a GPU if there is one.", rich_help_panel=HOW
    ),
]
Amp = Annotated[bool, typer.Option("--amp", help="With bf16 autocast.", rich_help_panel=HOW)]
Compile = Annotated[bool, typer.Option("--compile", help="With torch.compile.", rich_help_panel=HOW)]
Yardstick = Annotated[
    str,
    typer.Option(
        "--yardstick", metavar="NAME", help="The model of torchvision that all are compared with.", rich_help_panel=WHAT
    ),
]
Seconds = Annotated[
    float,
    typer.Option(
        "--seconds", metavar="S", help="Length of a timed block; there are five of each.", rich_help_panel=HOW
    ),
]

MEBIBYTE = 2**20


def bench(
    context: typer.Context,
    models: Models,
    backbone: options.Backbone = None,
    yardstick: Yardstick = "fcn_resnet50",
    size: Size = "512x1024",
    batch: Batch = 1,
    num_classes: NumClasses = 19,
    device: Device = None,
    amp: Amp = False,
    compile: Compile = False,
    seconds: Seconds = 0.5,
    plugin_options: options.PluginOptions = [],  # noqa: B006 - Typer makes a new list
    as_json: options.Json = False,
) -> None:
    """Measure models beside one of torchvision: throughput, peak memory, parameters, GFLOPs.

    Options of the models: --model.OPTION VALUE; they are given to each model that is named.
    """
    from segctl.bench import bench as run_bench

    with output.busy("Measuring") as say:
        found = run_bench(
            models,
            options=_model_options(options.configured(context.params)),
            size=_size(size),
            batch_size=batch,
            num_classes=num_classes,
            device=device,
            amp=amp,
            compile=compile,
            yardstick=yardstick,
            seconds=seconds,
            on_progress=say,
        )
    if as_json:
        output.document(asdict(found))
        return
    output.note(_told(found))
    _show(found)


def _model_options(given: dict[str, object]) -> dict[str, object]:
    foreign = [key for key in given if key.startswith(("dataset.", "loss."))]
    if foreign:
        raise ConfigError(f"--{foreign[0]}: bench takes options of models only.", "They begin with --model.")
    return {key.removeprefix("model."): value for key, value in given.items() if key.startswith("model.")}


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise ConfigError(f"--size: {text!r} is not HEIGHTxWIDTH.", "An example: --size 512x1024")
    return int(match[1]), int(match[2])


def _told(found: Benchmark) -> str:
    """Under what was measured, and what the figures are."""
    where = found.device_name if found.threads is None else f"{found.device_name}, {found.threads} threads"
    how = f"{'bf16 autocast' if found.amp else 'float32'}{', torch.compile' if found.compile else ''}"
    memory = "torch's allocator" if found.device == "cuda" else "growth of a fresh process's resident set"
    return "\n".join(
        [
            f"{where}, torch {found.torch}, {how}; {found.batch_size} x {found.size[0]}x{found.size[1]}, "
            f"{found.num_classes} classes, {'channels last' if found.channels_last else 'contiguous'}.",
            "Images per second: median of 5 blocks, in turn with the yardstick; ratio: median of the pairs.",
            f"Memory: peak with the weights ({memory}). GFLOPs: forward, one image, a multiply-add counted as 2.",
        ]
    )


def _show(found: Benchmark) -> None:
    titles = ("PARAMS M", "GFLOPS", "FORWARD/S", "RATIO", "TRAINING/S", "RATIO", "FORWARD MiB", "TRAINING MiB")
    columns = (Column("MODEL"), *(Column(title, right=True) for title in titles))
    console = output.results()
    console.print(table(columns, [_row(each) for each in found.models], console.width))


def _row(model: BenchmarkedModel) -> Row:
    return Row(
        (
            f"{model.name} (torchvision)" if model.yardstick else model.name,
            f"{model.parameters / 1e6:.2f}",
            "?" if model.gflops is None else _figure(model.gflops),
            _figure(model.forward),
            f"{model.forward_ratio:.2f}",
            _figure(model.training),
            f"{model.training_ratio:.2f}",
            f"{model.forward_memory / MEBIBYTE:.0f}",
            f"{model.training_memory / MEBIBYTE:.0f}",
        )
    )


def _figure(value: float) -> str:
    """Three digits that count: ``0.0432``, ``1.23``, ``45.6``, ``789``."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"
