"""``segctl weights import``; ``segctl weights dunet-upsampling`` is in a file of its own."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segctl.cli import options, output, weights_dunet
from segctl.cli.options import HOW, WHAT

if TYPE_CHECKING:
    from segctl.weights import Imported

app = typer.Typer(help="Weights to start from.")

File = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="What torch.save wrote, or a .safetensors file.", show_default=False),
]
Model = Annotated[
    str, typer.Option("--model", metavar="NAME", help="See 'segctl plugins list models'.", rich_help_panel=WHAT)
]
NumClasses = Annotated[
    int | None,
    typer.Option(
        "--num-classes",
        metavar="N",
        min=1,
        help="The model's number of classes. Default: what the file's shapes say.",
        rich_help_panel=WHAT,
    ),
]
Partial = Annotated[
    bool,
    typer.Option("--partial", help="Take what matches; the rest of the model stays random.", rich_help_panel=HOW),
]
Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="FILE", help="Where the weights go.", rich_help_panel=options.OUTPUT)
]

SHOWN = 12  # names of each kind; --json has them all


@app.callback()
def _group() -> None:
    """Weights to start from."""


app.command("dunet-upsampling")(weights_dunet.dunet_upsampling)


@app.command("import")
def import_weights(
    context: typer.Context,
    file: File,
    out: Out,
    model: Model,
    num_classes: NumClasses = None,
    partial: Partial = False,
    plugin_options: options.PluginOptions = [],  # noqa: B006 - Typer makes a new list
    as_json: options.Json = False,
) -> None:
    """Bring a published checkpoint into the names of a model, for --model.weights.

    Options of the model: --model.OPTION VALUE; see 'segctl plugins show NAME'.
    Where something of the model is not in the file, nothing is written, unless --partial is given.
    """
    from segctl.weights import import_weights as run_import

    reports: list[Imported] = []
    given = options.configured(context.params)
    try:
        with output.busy("Matching weights"):
            imported = run_import(
                file,
                model,
                options={key.removeprefix("model."): value for key, value in given.items() if key.startswith("model.")},
                num_classes=num_classes,
                partial=partial,
                out=out,
                on_report=reports.append,
            )
    finally:  # also where the file is refused for what the report says
        for report in reports:
            if as_json:
                output.document({**asdict(report), "complete": report.complete})
            else:
                _show(report)
    random = [entry.name for how in ("missing", "ambiguous", "misshaped") for entry in imported.of(how)]
    if random:
        output.note(f"note: {len(random)} entries stay random: {_some(random)}.")
    output.note(f"{out} is for --model.weights of segctl train.")


def _show(report: Imported) -> None:
    """A row for each part of the model, then the names that did not match."""
    from segctl.cli.table import Column, Row, table

    for notice in report.notices:
        output.note(f"note: {notice}")
    ways = [how for how in report.WAYS if any(entry.how == how for entry in report.entries)]
    columns = (Column("PART"), Column("ENTRIES", right=True), *(Column(how.upper(), right=True) for how in ways))
    parts: dict[str, Counter[str]] = {}
    for entry in report.entries:
        parts.setdefault(entry.name.split(".")[0], Counter())[entry.how] += 1
    rows = [Row((part, str(found.total()), *(str(found[how] or "") for how in ways))) for part, found in parts.items()]
    console = output.results()
    console.print(table(columns, rows, console.width))
    for line in _unmatched(report):
        typer.echo(line)


def _unmatched(report: Imported) -> list[str]:
    wrong = [f"{e.name}: {_size(e.source_shape)} instead of {_size(e.shape)}" for e in report.of("misshaped")]
    kinds: dict[str, list[str]] = {
        "not in the file": [entry.name for entry in report.of("missing")],
        "of another shape in the file": wrong,
        "in the file only": list(report.unused),
    }
    return [f"{what} ({len(names)}): {_some(names)}" for what, names in kinds.items() if names]


def _size(shape: Any) -> str:
    return "x".join(map(str, shape or ())) or "a number"


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
