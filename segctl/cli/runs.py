"""``segctl status``, ``logs``, ``cancel`` and ``requeue``: looking after runs that are there."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from segctl.cli import options, output, sweeps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from segctl.status import RunStatus

WATCH_SECONDS = 2.0
LONGEST_NODES = 20

Runs = Annotated[
    list[str] | None, typer.Argument(metavar="RUN", help="Ids, names or folders. Default: all.", show_default=False)
]
Watch = Annotated[bool, typer.Option("--watch", help="Keep showing it, until Ctrl-C.", rich_help_panel=options.OUTPUT)]
Rank = Annotated[int, typer.Option("--rank", metavar="N", help="Whose output, 0 being the first process.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Keep showing new lines until the run ends.")]


def status(
    runs: Runs = None,
    watch: Watch = False,
    runs_dir: options.RunsDir = None,
    as_json: options.Json = False,
) -> None:
    """Show how runs are doing; of a sweep, ranked by mIoU."""
    from segctl.status import status as look

    sweep = sweeps.named(runs, runs_dir)
    if sweep is not None and not as_json:
        sweeps.show(sweep, watch=watch)
        return
    if watch and not as_json:
        _watch(tuple(runs or ()), runs_dir)
    statuses = look(tuple(runs or ()), runs_dir=runs_dir)
    if as_json:
        output.document([asdict(each) for each in statuses])
        return
    if not statuses:
        output.note("There are no runs yet; 'segctl train' starts one.")
        return
    console = output.results()
    console.print(_table(statuses, console.width))


def logs(
    run: options.RunReference,
    follow: Follow = False,
    rank: Rank = 0,
    runs_dir: options.RunsDir = None,
) -> None:
    """Print what a process of a run wrote."""
    from segctl.logs import logs as read

    for line in read(run, rank=rank, follow=follow, runs_dir=runs_dir):
        sys.stdout.write(line if line.endswith("\n") else f"{line}\n")
        if follow:
            sys.stdout.flush()


def cancel(run: options.RunReference, runs_dir: options.RunsDir = None, as_json: options.Json = False) -> None:
    """Stop a run at its next step, with a checkpoint; or all runs of a sweep."""
    from segctl.cancel import cancel as ask

    sweep = sweeps.named([run], runs_dir)
    if sweep is not None:
        sweeps.cancel(sweep, as_json=as_json)
        return
    result = ask(run, runs_dir=runs_dir)
    if as_json:
        output.document(asdict(result))
    else:
        output.note(output.told(f"{result.id} is {result.state}: {result.why}", result.hint))


def requeue(run: options.RunReference, runs_dir: options.RunsDir = None, as_json: options.Json = False) -> None:
    """Have a running run save, and wait for its next turn behind the others."""
    from segctl.requeue import requeue as ask

    result = ask(run, runs_dir=runs_dir)
    if as_json:
        output.document(asdict(result))
    else:
        output.note(output.told(f"{result.id} is {result.state}: {result.why}", result.hint))


STYLES = {
    "RUNNING": "green",
    "COMPLETED": "blue",
    "FAILED": "bold red",
    "LOST": "bold red",
    "TIMEOUT": "red",
    "STALLED": "yellow",
    "PENDING": "cyan",
    "REQUEUED": "cyan",
}


def _table(statuses: Sequence[RunStatus], width: int) -> Text:
    from segctl.cli.table import Column, Row, table

    columns = (
        Column("RUN"),
        Column("STATE"),
        Column("EPOCH", right=True),
        Column("MIOU", right=True),
        Column("BEST", right=True),
        Column("LEFT", right=True),
        Column("LOSS", right=True),
        Column("WHERE"),
        Column("TIME", right=True),
        Column("RESTARTS", right=True),
        Column("GPU-H", right=True),
        Column("LOST-H", right=True),
        Column("KIND"),
        Column("MODEL"),
        Column("DATASET"),
        Column("ON"),
        Column("DATA"),
    )
    rows = [Row(_cells(each), note=note(each), styles=((1, STYLES.get(each.state, "")),)) for each in statuses]
    return table(columns, rows, width)


def _cells(status: RunStatus) -> tuple[str, ...]:
    from segctl.data_record import brief

    return (
        status.id,
        status.state,
        epochs(status),
        output.percent(status.miou),
        output.percent(status.best_miou),
        output.seconds(status.eta_seconds) if status.state == "RUNNING" else "",
        f"{status.loss:.3g}" if status.loss is not None else "",
        _shortened(status.host),
        output.seconds(status.elapsed) if status.limit is None else _of_limit(status.elapsed, status.limit),
        str(status.restarts or ""),
        _hours(status.gpu_hours),
        _hours(status.gpu_hours_lost),
        status.kind,
        status.model or "",
        status.dataset or "",
        status.backend,
        brief(status.data),
    )


def epochs(status: RunStatus) -> str:
    """``3.2/50``."""
    if status.epoch is None:
        return ""
    done = output.short(status.epoch)
    return done if status.epochs is None else f"{done}/{output.short(status.epochs)}"


def _of_limit(elapsed: float | None, limit: float) -> str:
    return f"{output.seconds(elapsed) or '-'}/{output.seconds(limit)}"


def _shortened(nodes: str) -> str:
    """A node list can be as long as a line."""
    return nodes if len(nodes) <= LONGEST_NODES else f"{nodes[: LONGEST_NODES - 3]}..."


def _hours(value: float | None) -> str:
    return "" if not value else f"{value:.1f}" if value >= 0.1 else f"{value:.2f}"


def note(status: RunStatus) -> str:
    """Why a run is as it is, and what to do about one that needs somebody; a completed one needs no words."""
    if status.state in ("COMPLETED", "CANCELLED", "RUNNING"):
        return "" if status.state == "COMPLETED" else status.why
    why = status.why
    wait = status.expected_start - time.time() if status.expected_start is not None else 0.0
    if wait > 1:
        why += f"; expected to start in {output.seconds(wait)}"
    return why if status.state == "PENDING" else output.told(why, status.hint)


def _watch(references: tuple[str, ...], runs_dir: Path | None) -> NoReturn:
    """Shows the table anew every few seconds, on a terminal in place of the one before; leaves by Ctrl-C."""
    from rich.live import Live

    from segctl.launch.backends import POLITE
    from segctl.status import status as look

    console = output.results()

    def current() -> Text:
        text = _table(look(references, runs_dir=runs_dir, max_age=POLITE), console.width)
        # What does not fit on the screen would scroll it; the newest runs come first.
        lines = text.split("\n")
        return text if not console.is_terminal else type(text)("\n").join(lines[: max(console.height - 1, 2)])

    if not console.is_terminal:
        while True:
            console.print(current())
            time.sleep(WATCH_SECONDS)
    with Live(current(), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(WATCH_SECONDS)
            live.update(current(), refresh=True)
