"""How `segctl plugins check` tells what it found: all checks of one plugin, or a line for each of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from segctl.cli import output
from segctl.cli.table import Column, Row, table

if TYPE_CHECKING:
    from segctl.conformance import Check, Report
    from segctl.registry import PluginEntry

_STYLES = {"passed": "green", "skipped": "yellow", "FAILED": "bold red"}


def show(report: Report) -> None:
    outcome = "passed" if report.passed else f"FAILED ({len(report.failures)} of {len(report.checks)})"
    typer.echo(f"{report.name} ({report.kind}, {report.distribution}): {outcome}")
    columns = (Column("  CHECK"), Column("RESULT"), Column("TIME", right=True))
    console = output.results()
    console.print(table(columns, [_row(check) for check in report.checks], console.width))
    typer.echo("")


class Overview:
    """A line for each plugin, printed as soon as it has been checked: all of them take minutes."""

    def __init__(self, entries: Sequence[PluginEntry]) -> None:
        names, kinds = [entry.name for entry in entries], [entry.kind for entry in entries]
        self.columns = (Column("NAME"), Column("KIND"), Column("RESULT"), Column("TIME", right=True))
        # As wide as any row to come, so that the columns stand still.
        self.widest = Row((max(names, key=len, default=""), max(kinds, key=len, default=""), "passed", "000.0 s"))
        self.begun = False

    def show(self, entry: PluginEntry, report: Report, *, again: bool) -> None:
        """Prints the line of `entry`; with `again` the report is that of the same plugin under its other name."""
        result = "passed" if report.passed else "FAILED"
        cells = (entry.name, entry.kind, result, "" if again else f"{report.seconds:.1f} s")
        row = Row(cells, f"the same as {report.name}" if again else _remark(report), ((2, _STYLES[result]),))
        console = output.results()
        heading, _, *lines = table(self.columns, (self.widest, row), console.width).split("\n")
        for line in lines if self.begun else (heading, *lines):
            console.print(line)
        self.begun = True


def summary(reports: Sequence[Report]) -> str:
    failed = [report.name for report in reports if not report.passed]
    told = f"{len(reports)} plugins checked: {len(reports) - len(failed)} passed"
    return f"{told}, {len(failed)} FAILED ({', '.join(failed)})." if failed else f"{told}."


def record(report: Report) -> dict[str, Any]:
    return {
        "name": report.name,
        "kind": report.kind,
        "distribution": report.distribution,
        "passed": report.passed,
        "checks": [
            {"name": each.name, "result": _outcome(each).lower(), "detail": each.detail, "seconds": each.seconds}
            for each in report.checks
        ],
    }


def _row(check: Check) -> Row:
    result = _outcome(check)
    return Row((f"  {check.name}", result, f"{check.seconds:.2f} s"), check.detail, ((1, _STYLES[result]),))


def _outcome(check: Check) -> str:
    return "skipped" if check.skipped else "passed" if check.passed else "FAILED"


def _remark(report: Report) -> str:
    if report.failures:
        return "; ".join(f"{check.name}: {check.detail}" for check in report.failures)
    if report.skipped:
        return f"{len(report.skipped)} checks not tried: {report.skipped[0].detail}"
    return ""
