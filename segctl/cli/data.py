"""``segctl data check|prepare|show``: looking at data before a GPU is spent on them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from segctl.cli import options, output
from segctl.cli.failures import USER_ERROR
from segctl.cli.options import HOW, WHAT
from segctl.errors import ConfigError

app = typer.Typer(help="Look at data before a GPU is spent on them.")

DatasetName = Annotated[
    str, typer.Argument(metavar="NAME", help="See 'segctl plugins list datasets'.", show_default=False)
]
Splits = Annotated[
    list[str] | None,
    typer.Option("--split", metavar="SPLIT", help="Repeatable. Default: all there are.", rich_help_panel=WHAT),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", min=1, help="Processes. Default: one for each core.", rich_help_panel=HOW),
]
Samples = Annotated[
    list[str] | None,
    typer.Argument(metavar="SAMPLE", help="Names of samples. Default: some are drawn.", show_default=False),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="The PNG. Default: NAME-SPLIT.png.",
        show_default=False,
        rich_help_panel=options.OUTPUT,
    ),
]
Split = Annotated[
    str | None,
    typer.Option("--split", metavar="SPLIT", help="Default: the one to train on.", rich_help_panel=WHAT),
]
Count = Annotated[
    int, typer.Option("--count", metavar="N", min=1, help="Samples, where none are named.", rich_help_panel=WHAT)
]
Draws = Annotated[
    int | None,
    typer.Option(
        "--draws",
        metavar="N",
        min=0,
        help="How often each is augmented. Default: twice in the training split, elsewhere not at all.",
        rich_help_panel=HOW,
    ),
]
Recipe = Annotated[
    str | None,
    typer.Option("--recipe", metavar="RECIPE", help="Whose augmentation and seed hold.", rich_help_panel=HOW),
]
Sets = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Such as augment.crop=512. Repeatable.", rich_help_panel=HOW),
]
Seed = Annotated[
    str | None, typer.Option("--seed", metavar="N", help="Other samples, other crops.", rich_help_panel=HOW)
]


@app.command("check")
def check(
    context: typer.Context,
    name: DatasetName,
    split: Splits = None,
    workers: Workers = None,
    plugin_options: options.PluginOptions = [],  # noqa: B006 - Typer makes a new list
    data_root: options.DataFolder = None,
    as_json: options.Json = False,
) -> None:
    """Read every image and mask and say all that is wrong; leave with 1 where there are errors.

    Options of the data set: --dataset.OPTION VALUE; see 'segctl plugins show NAME'.
    """
    from segctl.cli import data_report
    from segctl.cli.data_progress import LookProgress
    from segctl.data_check.check import check_data

    with LookProgress("Checking") as progress:
        report = check_data(
            name,
            splits=tuple(split or ()),
            options=_dataset_options(context),
            data_root=data_root,
            workers=workers,
            on_progress=progress,
        )
    if as_json:
        counts = {level: report.count(level) for level in ("error", "warning", "note")}
        output.document({**asdict(report), "counts": counts})
    else:
        console = output.results()
        console.print(data_report.render(report, console.width))
    if report.count("error"):
        raise typer.Exit(USER_ERROR)


@app.command("prepare")
def prepare(name: DatasetName, data_root: options.DataFolder = None, as_json: options.Json = False) -> None:
    """Make, once, what a data set needs beside its archives' files, such as COCO's masks; goes on where it stopped."""
    from segctl.cli.data_progress import LookProgress
    from segctl.data_prepare import prepare_data

    with LookProgress("Preparing") as progress:
        prepared = prepare_data(name, data_root=data_root, on_progress=progress)
    if as_json:
        output.document(asdict(prepared))
    else:
        where = f" in {prepared.root}" if prepared.root else ""
        typer.echo(f"{prepared.dataset}{where} is ready{'' if prepared.steps else ', as it was'}.")


@app.command("show")
def show(
    context: typer.Context,
    name: DatasetName,
    samples: Samples = None,
    out: Out = None,
    split: Split = None,
    count: Count = 6,
    draws: Draws = None,
    recipe: Recipe = None,
    sets: Sets = [],  # noqa: B006 - Typer makes a new list
    seed: Seed = None,
    plugin_options: options.PluginOptions = [],  # noqa: B006
    data_root: options.DataFolder = None,
    as_json: options.Json = False,
) -> None:
    """Draw a contact sheet: images and their masks with a legend, before and after augmentation.

    Options of the data set: --dataset.OPTION VALUE; see 'segctl plugins show NAME'.
    """
    from segctl.data_show import show_data

    with output.busy("Drawing"):
        sheet = show_data(
            name,
            tuple(samples or ()),
            out=out,
            split=split,
            count=count,
            draws=draws,
            recipe=recipe,
            flags=options.configured(context.params, "name", "split"),
            sets=sets,
        )
    if as_json:
        output.document(asdict(sheet))
        return
    typer.echo(str(sheet.file))
    output.note(f"{len(sheet.samples)} samples of {sheet.split}: {', '.join(sheet.samples)}.")


def _dataset_options(context: typer.Context) -> dict[str, Any]:
    given = options.configured({"plugin_options": context.params.get("plugin_options")})
    foreign = [key for key in given if not key.startswith("dataset.")]
    if foreign:
        raise ConfigError(f"--{foreign[0]}: this takes options of data sets only.", "They begin with --dataset.")
    return {key.removeprefix("dataset."): value for key, value in given.items()}
