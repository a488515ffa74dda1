"""Options that several commands have, declared once, and the configuration keys that flags set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from segctl.cli.argv import GATHERED

WHAT, HOW, WHERE, OUTPUT = "What", "How", "Where", "Output"

ModelName = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="Model; see 'segctl plugins list models'.")
]
Backbone = Annotated[str | None, typer.Option("--backbone", metavar="NAME", help="The model's backbone.")]
DatasetName = Annotated[
    str | None, typer.Option("--dataset", metavar="NAME", help="Data set; see 'segctl plugins list datasets'.")
]
PluginOptions = Annotated[list[str], typer.Option(GATHERED, hidden=True)]
Sets = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set any key of the configuration, as in train.ema=0.999. Repeatable."
    ),
]
Gpus = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="GPUs per node, one process on each; 0: CPU. Default: the visible ones.",
        rich_help_panel=WHERE,
    ),
]
Procs = Annotated[
    int | None,
    typer.Option(metavar="N", help="Processes per node. Default: one per GPU, else one.", rich_help_panel=WHERE),
]
Nodes = Annotated[int | None, typer.Option(metavar="N", help="Nodes.", rich_help_panel=WHERE)]
On = Annotated[str | None, typer.Option(metavar="PLACE", help="Where to run: local.", rich_help_panel=WHERE)]
Name = Annotated[
    str | None, typer.Option(metavar="NAME", help="A name for the run; part of its id.", rich_help_panel=WHERE)
]
RunsDir = Annotated[
    Path | None,
    typer.Option(
        "--runs-dir",
        metavar="DIR",
        help="Folder of the runs. Default: $SEGCTL_RUNS, else runs/.",
        rich_help_panel=WHERE,
    ),
]
DataRoot = Annotated[
    str | None,
    typer.Option(
        "--data-root",
        metavar="DIR",
        help="Folder of the data sets. Default: the recipe's, $SEGCTL_DATA, else data/.",
        rich_help_panel=WHERE,
    ),
]
Detach = Annotated[
    bool, typer.Option("--detach", help="Print the run's id and return at once.", rich_help_panel=OUTPUT)
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, show the plan and write nothing.", rich_help_panel=OUTPUT)
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.", rich_help_panel=OUTPUT)]
RunReference = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run's id, the beginning of it, its name or its folder.", show_default=False),
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
    "name": "name",
    "data_root": "data_root",
    "seed": "seed",
    "split": "eval.split",
    "mode": "eval.mode",
    "flip": "eval.flip",
    "save_predictions": "eval.save_predictions",
}


def configured(given: Mapping[str, Any], *leave: str) -> dict[str, Any]:
    """What flags of the command line set in the configuration; `leave` names flags that mean something else here.

    Args:
        given: The parser's values by parameter name; None where a flag was not given.
    """
    flags = {
        _KEYS[name]: value for name, value in given.items() if name in _KEYS and name not in leave and value is not None
    }
    if flags.get("train.epochs") is not None:
        # `steps` overrides `epochs`; a recipe's steps must not make the flag mean nothing.
        flags.setdefault("train.steps", None)
    return flags
