"""``segctl profiles list|show|check``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segctl.cli import output
from segctl.cli.options import Json, RunsDir

if TYPE_CHECKING:
    from rich.text import Text

    from segctl.profile_check import ProfileReport
    from segctl.profiles import NamedProfile

app = typer.Typer(help="The places that --on NAME means.")

ProfileName = Annotated[str, typer.Argument(metavar="NAME", help="A profile.", show_default=False)]
PlaceName = Annotated[str, typer.Argument(metavar="NAME", help="A profile, slurm or local.", show_default=False)]
NoJob = Annotated[bool, typer.Option("--no-job", help="Send no job to the nodes; ask SLURM only.")]

EXAMPLE = """\
profiles:
  lab: {on: slurm, gpus: 4, time: 12:00:00, slurm: {partition: gpu, account: vision, memory: 64G}}
"""


@app.command("list")
def list_profiles(as_json: Json = False) -> None:
    """List the profiles and where each stands."""
    from segctl.profiles import profiles, where

    found = profiles()
    if as_json:
        output.document([_record(each) for each in found])
        return
    if not found:
        output.note(f"There are no profiles. {where()} One of them may hold:\n\n{EXAMPLE}")
        return
    console = output.results()
    console.print(_table(found, console.width))


@app.command("show")
def show(name: ProfileName, as_json: Json = False) -> None:
    """Show what a profile holds and what it amounts to."""
    from segctl.config.yaml_core import write
    from segctl.profiles import profile

    found = profile(name)
    if as_json:
        output.document(_record(found))
        return
    typer.echo(f"# profile {name} in {found.file}{_remark(found)}")
    typer.echo(write(dict(found.values)))
    launch = _launch(found) or {}
    if launch["on"] != "slurm":
        del launch["slurm"]
    typer.echo("# amounts to")
    typer.echo(write({"launch": launch}).rstrip())


@app.command("check")
def check(name: PlaceName, no_job: NoJob = False, runs_dir: RunsDir = None, as_json: Json = False) -> None:
    """Try whether jobs would run there; leave with 1 where they would not.

    On SLURM a job of five minutes at most looks at as many nodes as the profile asks for; Ctrl-C cancels it.
    """
    from segctl.profile_check import check_profile

    with output.busy("Looking") as busy:
        report = check_profile(name, job=not no_job, runs_dir=runs_dir, on_progress=busy)
    if as_json:
        output.document(_report(report))
    else:
        console = output.results()
        console.print(_checks(report, console.width))
        typer.echo(f"{name} can be used." if report.passed else f"Jobs would fail on {name}.")
    if not report.passed:
        raise typer.Exit(1)


def _table(found: Sequence[NamedProfile], width: int) -> Text:
    from segctl.cli.table import Column, Row, table

    columns = (
        Column("NAME"),
        Column("ON"),
        Column("PARTITION"),
        Column("NODES", right=True),
        Column("GPUS", right=True),
        Column("TIME", right=True),
        Column("FROM"),
    )
    rows = [Row(_cells(each), note=_note(each)) for each in found]
    return table(columns, rows, width)


def _cells(found: NamedProfile) -> tuple[str, ...]:
    launch = found.launch
    if launch is None:
        return (found.name, "", "", "", "", "", _short(found.file))
    gpus = "" if launch.gpus is None else str(launch.gpus)
    partition = launch.slurm.partition if launch.on == "slurm" else None
    return (found.name, launch.on, partition or "", str(launch.nodes), gpus, launch.time or "", _short(found.file))


def _note(found: NamedProfile) -> str:
    if found.problem:
        return f"broken: {found.problem}"
    return _remark(found).removeprefix("; ")


def _remark(found: NamedProfile) -> str:
    default = "; the default" if found.default else ""
    hides = f"; goes before the one in {_short(found.hides)}" if found.hides else ""
    return default + hides


def _short(file: Path) -> str:
    home = os.path.expanduser("~")
    return f"~{str(file)[len(home) :]}" if str(file).startswith(home + os.sep) else str(file)


def _launch(found: NamedProfile) -> dict[str, Any] | None:
    return None if found.launch is None else found.launch.model_dump(mode="json")


def _record(found: NamedProfile) -> dict[str, Any]:
    return {
        "name": found.name,
        "file": str(found.file),
        "default": found.default,
        "hides": None if found.hides is None else str(found.hides),
        "values": found.values,
        "launch": _launch(found),
        "problem": found.problem,
    }


def _report(report: ProfileReport) -> dict[str, Any]:
    checks = [
        {"name": each.name, "passed": each.passed, "found": each.found, "hint": each.hint} for each in report.checks
    ]
    return {"name": report.name, "on": report.on, "passed": report.passed, "checks": checks}


_RESULTS = {True: ("ok", "green"), False: ("FAILED", "bold red"), None: ("-", "dim")}


def _checks(report: ProfileReport, width: int) -> Text:
    from segctl.cli.table import Column, Row, table

    rows = []
    for each in report.checks:
        word, style = _RESULTS[each.passed]
        rows.append(Row((each.name, word), note=output.told(each.found, each.hint), styles=((1, style),)))
    return table((Column("CHECK"), Column("RESULT")), rows, width)
