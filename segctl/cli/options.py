"""Options that several commands have, declared once, and the configuration keys that flags set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from segctl.cli.argv import GATHERED

WHAT, HOW, WHERE, FILES, OUTPUT = "What", "How", "Where", "Files", "Output"

ModelName = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME", help="See 'segctl plugins list models'.", rich_help_panel=WHAT),
]
Backbone = Annotated[
    str | None, typer.Option("--backbone", metavar="NAME", help="The model's backbone.", rich_help_panel=WHAT)
]
DatasetName = Annotated[
    str | None,
    typer.Option("--dataset", metavar="NAME", help="See 'segctl plugins list datasets'.", rich_help_panel=WHAT),
]
PluginOptions = Annotated[list[str], typer.Option(GATHERED, hidden=True)]
Sets = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any key of the configuration, such as eval.overlap=0.5. Repeatable.",
        rich_help_panel=HOW,
    ),
]
On = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="PLACE",
        help="local, slurm or a profile ('segctl profiles list'). Default: the recipe's or run's, else the default "
        "profile, else local.",
        rich_help_panel=WHERE,
    ),
]
Nodes = Annotated[str | None, typer.Option("--nodes", metavar="N", help="Nodes.", rich_help_panel=WHERE)]
# Numbers are read by the configuration, which says what is wrong with one in the same words wherever it stands.
Gpus = Annotated[
    str | None,
    typer.Option(
        "--gpus",
        metavar="N",
        help="GPUs per node, one process on each; 0: CPU. Default: the visible ones, on SLURM none.",
        rich_help_panel=WHERE,
    ),
]
Procs = Annotated[
    str | None,
    typer.Option(
        "--procs", metavar="N", help="Processes per node. Default: one per GPU, else one.", rich_help_panel=WHERE
    ),
]
Time = Annotated[
    str | None,
    typer.Option(
        "--time",
        metavar="LIMIT",
        help="Time limit of one start: 90 (minutes), 12:00:00 or 2-0 (days-hours). Default: none, on SLURM the "
        "partition's.",
        rich_help_panel=WHERE,
    ),
]
Partition = Annotated[
    str | None, typer.Option("--partition", metavar="NAME", help="SLURM's partition.", rich_help_panel=WHERE)
]
SlurmOptions = Annotated[
    list[str],
    typer.Option(
        "--slurm",
        metavar="KEY=VALUE",
        help="Any option of sbatch, such as account=vision or exclude=n7. Repeatable.",
        rich_help_panel=WHERE,
    ),
]
Name = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", help="A name for the run; part of its id.", rich_help_panel=FILES),
]
DataRoot = Annotated[
    str | None,
    typer.Option(
        "--data-root",
        metavar="DIR",
        help="Folder of the data sets. Default: the recipe's, else $SEGCTL_DATA, else data/.",
        rich_help_panel=FILES,
    ),
]
DataFolder = Annotated[  # where there is no recipe
    str | None,
    typer.Option(
        "--data-root",
        metavar="DIR",
        help="Folder of the data sets. Default: $SEGCTL_DATA, else data/.",
        rich_help_panel=FILES,
    ),
]
RunsDir = Annotated[
    Path | None,
    typer.Option(
        "--runs-dir",
        metavar="DIR",
        help="Folder of the runs. Default: $SEGCTL_RUNS, else runs/.",
        rich_help_panel=FILES,
        show_default=False,
    ),
]
Snapshot = Annotated[
    bool | None,
    typer.Option(
        "--snapshot/--no-snapshot",
        help="Freeze plugins and other code that is not installed: edits while the job waits change nothing.",
        rich_help_panel=FILES,
    ),
]
Detach = Annotated[
    bool, typer.Option("--detach", help="Print the run's id and return at once.", rich_help_panel=OUTPUT)
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, show the plan, write nothing.", rich_help_panel=OUTPUT)
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.", rich_help_panel=OUTPUT)]
RunReference = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, the beginning of it, its name or its folder.")
]

_KEYS = {
    "model": "model",
    "backbone": "model.backbone",
    "dataset": "dataset",
    "loss": "loss",
    "lr": "optimizer.lr",
    "epochs": "train.epochs",
    "steps": "train.steps",
    "batch_size": "train.batch_size",
    "gpus": "launch.gpus",
    "procs": "launch.procs",
    "nodes": "launch.nodes",
    "on": "launch.on",
    "time": "launch.time",
    "partition": "launch.slurm.partition",
    "snapshot": "launch.snapshot",
    "name": "name",
    "data_root": "data_root",
    "seed": "seed",
    "split": "eval.split",
    "mode": "eval.mode",
    "flip": "eval.flip",
    "save_predictions": "eval.save_predictions",
    "submission": "eval.submission",
}


def configured(given: Mapping[str, Any], *leave: str) -> dict[str, Any]:
    """What flags of the command line set in the configuration; `leave` names flags that mean something else here.

    Args:
        given: The parser's values by parameter name; None where a flag was not given.

    Raises:
        ConfigError: ``--slurm`` says what is not its to say.
    """
    from segctl.config import slurm_options

    known = {_KEYS[name]: value for name, value in given.items() if name in _KEYS and name not in leave}
    flags = {key: value for key, value in known.items() if value is not None}
    gathered = (text.partition("=") for text in given.get("plugin_options") or ())
    return {
        **flags,
        **slurm_options.settings(given.get("slurm") or (), flags),
        **{key: value for key, _, value in gathered},
    }
