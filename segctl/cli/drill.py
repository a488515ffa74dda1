"""``segctl drill``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from segctl.cli import options, output
from segctl.cli.failures import USER_ERROR, say
from segctl.cli.submission import CHECKING
from segctl.cli.table import Column, Row, table
from segctl.cli.train import BatchSize, LearningRate, LossName, Recipe, Seed

if TYPE_CHECKING:
    from segctl.drill import Disturbed, Drill

Steps = Annotated[
    int,
    typer.Option("--steps", metavar="N", help="Steps of the short training, 6 or more.", rich_help_panel=options.HOW),
]
Only = Annotated[
    list[str],
    typer.Option(
        "--only",
        metavar="NAME",
        help="Only this disturbance: requeue, kill-in-save or lost-node. Repeatable. Default: all.",
        rich_help_panel=options.HOW,
    ),
]
Keep = Annotated[
    bool,
    typer.Option("--keep", help="Keep its runs even when all is well.", rich_help_panel=options.FILES),
]

STYLES = {"passed": "green", "differs": "bold red", "failed": "bold red", "skipped": "yellow"}


def drill(
    context: typer.Context,
    recipe: Recipe = None,
    model: options.ModelName = None,
    backbone: options.Backbone = None,
    dataset: options.DatasetName = None,
    loss: LossName = None,
    lr: LearningRate = None,
    batch_size: BatchSize = None,
    seed: Seed = None,
    steps: Steps = 12,
    only: Only = [],  # noqa: B006 - Typer makes a new list
    sets: options.Sets = [],  # noqa: B006
    plugin_options: options.PluginOptions = [],  # noqa: B006
    on: options.On = None,
    nodes: options.Nodes = None,
    gpus: options.Gpus = None,
    procs: options.Procs = None,
    time: options.Time = None,
    partition: options.Partition = None,
    slurm: options.SlurmOptions = [],  # noqa: B006
    data_root: options.DataRoot = None,
    runs_dir: options.RunsDir = None,
    snapshot: options.Snapshot = None,
    keep: Keep = False,
    as_json: options.Json = False,
) -> None:
    """Interrupt a short training in every way, and prove that nothing is lost.

    It is asked to save and requeued, killed inside a save, and loses its machine. Each time its losses and its last
    checkpoint must equal those of an undisturbed run to the last bit. Options of the plugins as for 'segctl train'.
    """
    from segctl.drill import drill as run_drill

    with output.busy(CHECKING) as tell:
        found = run_drill(
            recipe,
            flags=options.configured(context.params, "steps"),
            sets=sets,
            steps=steps,
            only=only,
            runs_dir=runs_dir,
            keep=keep,
            on_progress=tell,
        )
    for notice in found.notices:
        output.note(f"note: {notice}")
    if as_json:
        output.document(asdict(found))
    else:
        _show(found)
    if found.kept:
        output.note(f"Its runs were kept: {', '.join(path.name for path in found.kept)}")
    if not found.passed:
        raise typer.Exit(say(output.told(_failure(found), found.why), USER_ERROR))


def _show(found: Drill) -> None:
    console = output.results()
    columns = (
        Column("DISTURBANCE"),
        Column("VERDICT"),
        Column("LOSSES"),
        Column("CHECKPOINT"),
        Column("STARTS", right=True),
        Column("FROM STEP", right=True),
    )
    console.print(table(columns, [_row(each) for each in found.disturbances], console.width))
    if found.passed:
        processes = f"{found.processes} process{'es' if found.processes > 1 else ''}"
        where = f"{found.model} on {found.dataset}, {found.backend}, {processes}, {found.steps} steps"
        how_long = output.seconds(found.seconds)
        typer.echo(f"{where}: interrupted or not, all losses and the last checkpoint are the same ({how_long}).")


def _row(each: Disturbed) -> Row:
    compared = each.verdict in ("passed", "differs")
    return Row(
        (
            each.name,
            each.verdict,
            _losses(each) if compared else "",
            _checkpoint(each) if compared else "",
            str(each.starts or ""),
            "" if each.came_back_from is None else str(each.came_back_from),
        ),
        note=_note(each),
        styles=((1, STYLES[each.verdict]),),
    )


def _losses(each: Disturbed) -> str:
    return "equal" if each.first_difference is None else f"differ from step {each.first_difference}"


def _checkpoint(each: Disturbed) -> str:
    return f"{len(each.differing)} entries differ" if each.differing else "equal"


def _note(each: Disturbed) -> str:
    from segctl.drill_verdict import shortened

    differing = f"These entries of the checkpoint differ: {shortened(each.differing)}" if each.differing else ""
    return output.told(each.what, each.why, differing)


def _failure(found: Drill) -> str:
    verdicts = {each.name: each.verdict for each in found.disturbances}
    bad = [f"{name} {verdict}" for name, verdict in verdicts.items() if verdict in ("differs", "failed")]
    what = f"{found.model} on {found.dataset} does not pass the drill"
    return f"{what}: {', '.join(bad)}" if bad else f"{what}: nothing of it may be done on {found.backend}"
