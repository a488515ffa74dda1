"""``segctl eval``."""

from __future__ import annotations

from typing import Annotated

import typer

from segctl.cli import options, output
from segctl.cli.options import HOW, WHAT
from segctl.cli.submission import CHECKING, conclude

Run = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN",
        help="The trained run. Default: the newest one with the given model, backbone and data set.",
        show_default=False,
    ),
]
Checkpoint = Annotated[
    str,
    typer.Option("--checkpoint", metavar="WHICH", help="best (by mIoU), last or a file.", rich_help_panel=WHAT),
]
Split = Annotated[
    str | None,
    typer.Option("--split", metavar="NAME", help="Default: the data set's evaluation split.", rich_help_panel=WHAT),
]
Mode = Annotated[str | None, typer.Option("--mode", metavar="MODE", help="whole image or slide.", rich_help_panel=HOW)]
Scales = Annotated[
    str | None,
    typer.Option("--scales", metavar="S,S,...", help="Average over these scales: 0.75,1,1.25.", rich_help_panel=HOW),
]
Flip = Annotated[
    bool | None, typer.Option("--flip/--no-flip", help="Average with the mirrored image.", rich_help_panel=HOW)
]
SavePredictions = Annotated[
    bool | None,
    typer.Option(
        "--save-predictions", help="Write the predicted masks as palette PNGs.", rich_help_panel=options.OUTPUT
    ),
]
Submission = Annotated[
    bool | None,
    typer.Option(
        "--submission",
        help="Zip the predictions as the benchmark's server wants them.",
        rich_help_panel=options.OUTPUT,
    ),
]


def evaluate(
    context: typer.Context,
    run: Run = None,
    model: options.ModelName = None,
    backbone: options.Backbone = None,
    dataset: options.DatasetName = None,
    checkpoint: Checkpoint = "best",
    split: Split = None,
    mode: Mode = None,
    scales: Scales = None,
    flip: Flip = None,
    sets: options.Sets = [],  # noqa: B006 - Typer makes a new list
    plugin_options: options.PluginOptions = [],  # noqa: B006
    on: options.On = None,
    nodes: options.Nodes = None,
    gpus: options.Gpus = None,
    procs: options.Procs = None,
    time: options.Time = None,
    partition: options.Partition = None,
    slurm: options.SlurmOptions = [],  # noqa: B006
    name: options.Name = None,
    data_root: options.DataRoot = None,
    runs_dir: options.RunsDir = None,
    snapshot: options.Snapshot = None,
    save_predictions: SavePredictions = None,
    submission: Submission = None,
    detach: options.Detach = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Evaluate a trained run: mIoU and per-class measures, each image counted once at its own resolution."""
    from segctl.submit import evaluate as submit

    match = {"model": model, "backbone": backbone, "dataset": dataset}
    with output.busy(CHECKING):
        submitted = submit(
            run,
            match={key: value for key, value in match.items() if value is not None},
            flags={**options.configured(context.params, *match), **_scales(scales)},
            sets=sets,
            checkpoint=checkpoint,
            runs_dir=runs_dir,
            dry_run=dry_run,
        )
    conclude(submitted, detach=detach, as_json=as_json)


def _scales(text: str | None) -> dict[str, str]:
    return {} if text is None else {"eval.scales": f"[{text.strip('[]')}]"}
