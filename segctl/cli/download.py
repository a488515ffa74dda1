"""``segctl download``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segctl.cli import options, output
from segctl.cli.download_progress import amount, display
from segctl.cli.options import FILES, HOW, WHAT, WHERE
from segctl.cli.table import Column, Row, table
from segctl.errors import ConfigError, DownloadError

if TYPE_CHECKING:
    from segctl.download import Downloaded

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME...", help="Data sets; see 'segctl plugins list datasets'.", show_default=False),
]
All = Annotated[bool, typer.Option("--all", help="All data sets that can be downloaded.", rich_help_panel=WHAT)]
Mirror = Annotated[
    str,
    typer.Option(
        "--mirror",
        metavar="DIR|URL",
        help="Holds the files by their names; asked before the published addresses.",
        rich_help_panel=WHERE,
        show_default=False,
    ),
]
From = Annotated[
    list[str],
    typer.Option(
        "--from",
        metavar="FILE|DIR",
        help="An archive that is here already, or a folder with some. Repeatable.",
        rich_help_panel=WHERE,
        show_default=False,
    ),
]
On = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="PLACE",
        help="As a job there: slurm, local or a profile ('segctl profiles list'). Default: in this process.",
        rich_help_panel=WHERE,
    ),
]
KeepArchives = Annotated[
    bool,
    typer.Option(
        "--keep-archives",
        help="Keep what was fetched in DATA_ROOT/.archives; else it is removed once it is unpacked.",
        rich_help_panel=FILES,
    ),
]
AtOnce = Annotated[
    int, typer.Option("--at-once", metavar="N", min=1, help="Files worked on at a time.", rich_help_panel=HOW)
]


def download(
    names: Names = None,
    everything: All = False,
    data_root: options.DataFolder = None,
    mirror: Mirror = "",
    files: From = [],  # noqa: B006 - Typer makes a new list
    keep_archives: KeepArchives = False,
    at_once: AtOnce = 4,
    on: On = None,
    runs_dir: options.RunsDir = None,
    detach: options.Detach = False,
    as_json: options.Json = False,
) -> None:
    """Fetch, verify and unpack data sets. After an interruption the same command goes on where it stopped."""
    wanted = {
        "names": names or (),
        "all": everything,
        "data_root": data_root,
        "mirror": mirror,
        "files": files,
        "keep_archives": keep_archives,
        "at_once": at_once,
    }
    if on is None and detach:
        raise ConfigError("--detach: without --on the download is not a job.", "Add --on local.")
    if on is None or not _as_a_job(wanted, on, runs_dir, detach=detach, as_json=as_json):
        _here(wanted, as_json=as_json)


def _as_a_job(wanted: Mapping[str, Any], on: str, runs_dir: Path | None, *, detach: bool, as_json: bool) -> bool:
    """Submits a job that does it, and follows that; False where nothing is left to be done."""
    from segctl.cli.submission import report
    from segctl.download.submission import submit

    with output.reserved():
        submitted = submit(**wanted, on=on, runs_dir=runs_dir)
    for notice in submitted.notices:
        output.note(f"note: {notice}")
    if submitted.run is not None:
        report(submitted.run, detach=detach, as_json=as_json)
    return submitted.run is not None


def _here(wanted: Mapping[str, Any], *, as_json: bool) -> None:
    from segctl.download import download as fetch

    try:
        with output.reserved(), display() as show:
            results = fetch(**wanted, ask=_ask, on_event=show)
    except KeyboardInterrupt:
        output.note("Stopped. The same command goes on where it stopped.")
        raise
    except DownloadError as error:
        _show(error.results, as_json=as_json)
        raise
    _show(results, as_json=as_json)


def _ask(host: str) -> tuple[str, str] | None:
    """Name and password of who sits at the terminal; None where nobody does."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    user = typer.prompt(f"Name at {host}", err=True)
    return user, typer.prompt("Password", hide_input=True, err=True)


def _show(results: Sequence[Downloaded], *, as_json: bool) -> None:
    if as_json:
        output.document([asdict(each) for each in results])
    elif results:
        console = output.results()
        columns = (Column("DATA SET"), Column("STATE"), Column("FETCHED", right=True), Column("FOLDER"))
        console.print(table(columns, [_row(each) for each in results], console.width))


def _row(each: Downloaded) -> Row:
    if not each.published:
        return Row((each.name, "nothing to fetch", "-", "-"))
    state = "complete" if each.complete else "not complete"
    fetched = amount(sum(file.size for file in each.files), None) if each.files else "-"
    return Row((each.name, state, fetched, str(each.root)))
