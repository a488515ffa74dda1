"""``segctl train`` and ``segctl resume``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from segctl.cli import options, output, sweeps
from segctl.cli.options import HOW, WHAT, WHERE
from segctl.cli.submission import CHECKING, conclude
from segctl.errors import ConfigError

Recipe = Annotated[
    str | None,
    typer.Argument(
        metavar="RECIPE",
        help="A recipe file, the name of a shipped recipe, or RUN/config.yaml to repeat a run.",
        show_default=False,
    ),
]
LossName = Annotated[
    str | None, typer.Option("--loss", metavar="NAME", help="Default: the model's own.", rich_help_panel=WHAT)
]
LearningRate = Annotated[
    str | None, typer.Option("--lr", metavar="RATE", help="Peak learning rate.", rich_help_panel=HOW)
]
Epochs = Annotated[
    str | None, typer.Option("--epochs", metavar="N", help="Passes over the training split.", rich_help_panel=HOW)
]
Steps = Annotated[
    str | None, typer.Option("--steps", metavar="N", help="Optimizer steps, instead of epochs.", rich_help_panel=HOW)
]
BatchSize = Annotated[
    str | None,
    typer.Option("--batch-size", metavar="N", help="Samples per step, over all processes.", rich_help_panel=HOW),
]
Seed = Annotated[
    str | None, typer.Option("--seed", metavar="N", help="Seed of everything random.", rich_help_panel=HOW)
]
After = Annotated[
    str | None,
    typer.Option("--after", metavar="RUN", help="Start when this run has completed.", rich_help_panel=WHERE),
]
Then = Annotated[
    Literal["eval"] | None,
    typer.Option(
        "--then",
        metavar="eval",
        help="Submit the evaluation of the best checkpoint too, to start when the training has completed.",
        rich_help_panel=WHERE,
    ),
]


def train(
    context: typer.Context,
    recipe: Recipe = None,
    model: options.ModelName = None,
    backbone: options.Backbone = None,
    dataset: options.DatasetName = None,
    loss: LossName = None,
    lr: LearningRate = None,
    epochs: Epochs = None,
    steps: Steps = None,
    batch_size: BatchSize = None,
    seed: Seed = None,
    sets: options.Sets = [],  # noqa: B006 - Typer makes a new list
    sweep: sweeps.File = None,
    plugin_options: options.PluginOptions = [],  # noqa: B006
    on: options.On = None,
    nodes: options.Nodes = None,
    gpus: options.Gpus = None,
    procs: options.Procs = None,
    time: options.Time = None,
    partition: options.Partition = None,
    slurm: options.SlurmOptions = [],  # noqa: B006
    max_running: sweeps.MaxRunning = None,
    after: After = None,
    then: Then = None,
    name: options.Name = None,
    data_root: options.DataRoot = None,
    runs_dir: options.RunsDir = None,
    snapshot: options.Snapshot = None,
    detach: options.Detach = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Train a model and follow it to its mIoU.

    Options of the model, data set and loss: --model.OPTION VALUE and so on; see 'segctl plugins show'. Several values,
    as in --set optimizer.lr=0.01,0.005, make a sweep: one training for each combination.
    """
    from segctl.config import grid
    from segctl.submit import train as submit

    if sweep is not None or grid.spans(sets):
        if then is not None:
            raise ConfigError("--then: a sweep is not followed by evaluations.", "Evaluate its best run: segctl eval.")
        sweeps.submit(
            recipe,
            flags=options.configured(context.params),
            sets=sets,
            file=sweep,
            max_running=max_running,
            runs_dir=runs_dir,
            after=after,
            detach=detach,
            dry_run=dry_run,
            as_json=as_json,
        )
        return
    if max_running is not None:
        raise ConfigError("--max-running: this is one training, not a sweep.", "Leave it out, or give several values.")
    with output.busy(CHECKING):
        submitted = submit(
            recipe,
            flags=options.configured(context.params),
            sets=sets,
            runs_dir=runs_dir,
            dry_run=dry_run,
            after=after,
            then=then,
        )
    conclude(submitted, detach=detach, as_json=as_json)


def resume(
    context: typer.Context,
    run: options.RunReference,
    on: options.On = None,
    nodes: options.Nodes = None,
    gpus: options.Gpus = None,
    procs: options.Procs = None,
    time: options.Time = None,
    partition: options.Partition = None,
    slurm: options.SlurmOptions = [],  # noqa: B006
    runs_dir: options.RunsDir = None,
    detach: options.Detach = False,
    as_json: options.Json = False,
) -> None:
    """Go on with a run that was stopped or failed, from its newest checkpoint.

    It may come back in another place and on another number of processes: the batches stay the same.
    """
    from segctl.submit import resume as submit

    with output.busy(CHECKING):
        submitted = submit(run, flags=options.configured(context.params), runs_dir=runs_dir)
    conclude(submitted, detach=detach, as_json=as_json)
