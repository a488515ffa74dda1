"""A sweep on the command line: submitted, followed as one table, ranked by mIoU, cancelled."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from segctl.cli import options, output
from segctl.cli.failures import INTERRUPTED, USER_ERROR, say
from segctl.cli.submission import CHECKING
from segctl.runs.state import FINAL

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

    from segctl.runs.sweeps import Sweep
    from segctl.status import RunStatus
    from segctl.sweep import Swept

LOOK_SECONDS = 2.0

File = Annotated[
    Path | None,
    typer.Option(
        "--sweep",
        metavar="FILE",
        help="Train once for each point: a YAML file with lists of values by key, or with a list of points.",
        rich_help_panel=options.HOW,
        show_default=False,
    ),
]
MaxRunning = Annotated[
    int | None,
    typer.Option(
        "--max-running", metavar="N", help="Of a sweep: run N at once, at most.", rich_help_panel=options.WHERE
    ),
]


def submit(
    recipe: str | None,
    *,
    flags: Mapping[str, Any],
    sets: Sequence[str],
    file: Path | None,
    max_running: int | None,
    runs_dir: Path | None,
    after: str | None,
    detach: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """What `segctl train` does where it is a sweep."""
    from segctl.sweep import sweep

    with output.busy(CHECKING) as tell:
        swept = sweep(
            recipe,
            flags=flags,
            sets=sets,
            file=file,
            max_running=max_running,
            runs_dir=runs_dir,
            dry_run=dry_run,
            after=after,
            on_progress=tell,
        )
    for notice in swept.notices:
        output.note(f"note: {notice}")
    if swept.sweep is None:
        _show_plan(swept, as_json=as_json)
    elif not detach:
        _follow(swept.sweep, as_json=as_json)
    elif as_json:
        output.document(_document(swept.sweep, _look(swept.sweep)))
    else:
        typer.echo(swept.sweep.id)


def named(references: Sequence[str] | None, runs_dir: Path | None) -> Sweep | None:
    """The sweep that a command is about; None where it is about runs."""
    from segctl.runs import store, sweeps

    return sweeps.meant(references[0], store.runs_dir(runs_dir)) if references and len(references) == 1 else None


def show(sweep: Sweep, *, watch: bool) -> None:
    """What `segctl status` does for a sweep."""
    if watch:
        _watch(sweep)
    console = output.results()
    console.print(_text(sweep, _look(sweep), console.width))


def cancel(sweep: Sweep, *, as_json: bool) -> None:
    """What `segctl cancel` does for a sweep."""
    from segctl.cancel import cancel_sweep

    stopped = cancel_sweep(sweep.path)
    if as_json:
        output.document([asdict(each) for each in stopped])
    else:
        ended = len(sweep.runs) - len(stopped)
        others = f"; {ended} had ended before" if ended else ""
        output.note(f"{sweep.id}: {_runs(len(stopped))} stopped, now {_states(stopped)}{others}.")


def _look(sweep: Sweep, max_age: float | None = None) -> tuple[RunStatus, ...]:
    from segctl.launch.backends import FRESH
    from segctl.status import status

    return status((sweep.path,), max_age=FRESH if max_age is None else max_age)


def _document(sweep: Sweep, statuses: Sequence[RunStatus]) -> dict[str, Any]:
    return {"id": sweep.id, "name": sweep.name, "path": str(sweep.path), "runs": [asdict(each) for each in statuses]}


def _show_plan(swept: Swept, *, as_json: bool) -> None:
    from segctl.cli import render

    points = [dict(trial.point.values) for trial in swept.trials]
    scripts = _scripts(swept)
    if as_json:
        plan = asdict(swept.plan)
        output.document({"plan": plan, "points": points, "scripts": scripts, "notices": list(swept.notices)})
        return
    console = output.results()
    typer.echo(render.plan(swept.plan))
    typer.echo("")
    console.print(_points(points, console.width))
    for script in scripts:
        typer.echo(f"\n{script.rstrip()}")


def _scripts(swept: Swept) -> list[str]:
    """What sbatch would get, with SWEEP for the sweep's folder."""
    if swept.plan.backend != "slurm":
        return []
    from segctl.launch.slurm.array import arrays, largest_array, text_of

    after = f"afterok:(the job of {swept.plan.after})" if swept.plan.after is not None else None
    parts = arrays(len(swept.trials), largest_array())
    return [text_of(Path("SWEEP"), part, swept.plan, after) for part in parts]


def _points(points: Sequence[Mapping[str, Any]], width: int) -> Text:
    from segctl.cli.table import Column, Row, table

    columns = [Column("POINT", right=True), *(Column(title) for title in _titles(points))]
    rows = [Row((str(number), *map(_value, point.values()))) for number, point in enumerate(points, 1)]
    return table(columns, rows, width)


def _text(sweep: Sweep, statuses: Sequence[RunStatus], width: int) -> Text:
    """The sweep in one line, and a row for each of its runs: the best ones first, failed ones last with the reason."""
    from rich.text import Text

    from segctl.cli.runs import STYLES, epochs, note
    from segctl.cli.table import Column, Row, table

    points = [each.point or {} for each in statuses]
    titles = _titles(points)
    columns = [
        Column("#", right=True),
        Column("BEST", right=True),
        *(Column(title) for title in titles),
        Column("STATE"),
        Column("EPOCH", right=True),
        Column("MIOU", right=True),
        Column("LEFT", right=True),
        Column("RUN"),
    ]
    rows = [
        Row(
            (
                str(rank) if each.best_miou is not None else "",
                output.percent(each.best_miou),
                *(_value(value) for value in point.values()),
                each.state,
                epochs(each),
                output.percent(each.miou),
                output.seconds(each.eta_seconds),
                each.id.rpartition("-")[2],
            ),
            note=note(each) if each.state not in ("RUNNING", "PENDING") else "",
            styles=((2 + len(titles), STYLES.get(each.state, "")),),
        )
        for rank, (each, point) in enumerate(zip(statuses, points, strict=True), 1)
    ]
    gone = len(sweep.runs) - len(statuses)
    head = f"{sweep.id}: {_runs(len(statuses))}: {_states(statuses)}" + (f"; {gone} removed" if gone else "")
    return Text("\n").join([Text(head), table(columns, rows, width)])


def _titles(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys as headings: their last parts, where these tell them apart and say something."""
    keys = list(points[0]) if points else []
    short = [key.removesuffix(".name").rpartition(".")[2] for key in keys]
    return [(word if short.count(word) == 1 else key).upper() for key, word in zip(keys, short, strict=True)]


def _value(value: Any) -> str:
    from segctl.wording import shown

    return value if isinstance(value, str) else shown(value)


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _states(statuses: Sequence[RunStatus]) -> str:
    return ", ".join(f"{count} {state}" for state, count in Counter(each.state for each in statuses).most_common())


def _follow(sweep: Sweep, *, as_json: bool) -> None:
    """Shows the sweep until all its runs have ended; Ctrl-C leaves it alone."""
    output.note(f"sweep {sweep.id}, {_runs(len(sweep.runs))} in {sweep.path.parent}")
    try:
        statuses = _followed(sweep)
    except KeyboardInterrupt:
        output.note(f"\nThe sweep goes on. To stop it: segctl cancel {sweep.id}")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        output.document(_document(sweep, statuses))
    else:
        console = output.results()
        console.print(_text(sweep, statuses, console.width))
    missing = len(sweep.runs) - sum(each.state == "COMPLETED" for each in statuses)
    if missing:
        what = f"{missing} of {_runs(len(sweep.runs))} did not complete."
        raise typer.Exit(say(f"{what} 'segctl resume RUN' goes on with one.", USER_ERROR))


def _followed(sweep: Sweep) -> tuple[RunStatus, ...]:
    from segctl.launch.backends import POLITE

    console = output.messages()
    ended: set[str] = set()
    with _live() as live:
        while True:
            statuses = _look(sweep, POLITE)
            if live is not None:
                live.update(_fitting(_text(sweep, statuses, console.width), console.height), refresh=True)
            else:
                _tell_of_ended(statuses, ended)
            if all(each.state in FINAL for each in statuses):
                return statuses
            time.sleep(LOOK_SECONDS)


def _live() -> AbstractContextManager[Live | None]:
    """A place on the terminal that is written anew and then removed; None where there is no terminal."""
    console = output.messages()
    if not console.is_terminal:
        return nullcontext()
    from rich.live import Live

    return Live(console=console, auto_refresh=False, transient=True)


def _tell_of_ended(statuses: Sequence[RunStatus], ended: set[str]) -> None:
    """A line for each run that has ended since the last look."""
    for each in statuses:
        if each.state in FINAL and each.id not in ended:
            ended.add(each.id)
            miou = f", mIoU {output.percent(each.best_miou)} %" if each.best_miou is not None else ""
            why = f": {each.why}" if each.why and each.state != "COMPLETED" else ""
            output.note(f"{len(ended)}/{len(statuses)} {each.id}: {each.state}{miou}{why}")


def _watch(sweep: Sweep) -> NoReturn:
    """The table, anew every few seconds, until Ctrl-C."""
    from segctl.launch.backends import POLITE

    console = output.results()
    if not console.is_terminal:
        while True:
            console.print(_text(sweep, _look(sweep, POLITE), console.width))
            time.sleep(LOOK_SECONDS)
    from rich.live import Live

    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(_fitting(_text(sweep, _look(sweep, POLITE), console.width), console.height), refresh=True)
            time.sleep(LOOK_SECONDS)


def _fitting(text: Text, height: int) -> Text:
    """What fits on the screen; the best runs come first."""
    return type(text)("\n").join(text.split("\n")[: max(height - 1, 2)])
