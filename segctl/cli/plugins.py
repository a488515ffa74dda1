"""``segctl plugins list|show|check``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segctl.cli import output
from segctl.cli.options import DataRoot, Json
from segctl.errors import ConfigError, PluginError, did_you_mean, listing

if TYPE_CHECKING:
    from segctl.conformance import Report
    from segctl.registry import PluginEntry

app = typer.Typer(help="The models, data sets and losses that are installed.")

OfKind = Annotated[
    str | None,
    typer.Argument(metavar="KIND", help="models, datasets or losses. Default: all.", show_default=False),
]
PluginName = Annotated[
    str, typer.Argument(metavar="NAME", help="A plugin's name, or distribution:name.", show_default=False)
]
PluginNames = Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Names of plugins.", show_default=False)]
Kind = Annotated[
    str | None, typer.Option("--kind", metavar="KIND", help="models, datasets or losses, where kinds share a name.")
]
All = Annotated[bool, typer.Option("--all", help="Check every installed plugin.")]


@app.command("list")
def list_plugins(kind: OfKind = None, as_json: Json = False) -> None:
    """List the installed plugins and where each comes from."""
    from segctl.cli.table import Column, Row, table
    from segctl.registry import alias_of, discover

    entries = [entry for each in _kinds(kind) for entry in discover(each)]
    found, aliases = _problems(entries), {entry: alias_of(entry, entries) for entry in entries}
    if as_json:
        output.document([{**_facts(entry, found.get(entry, "")), "alias_of": aliases[entry]} for entry in entries])
        return
    columns = (Column("NAME"), Column("KIND"), Column("DISTRIBUTION"), Column("VERSION"))
    notes = {entry: found.get(entry) or (f"alias of {name}" if name else "") for entry, name in aliases.items()}
    rows = [Row((entry.name, entry.kind, entry.distribution, entry.version), note=notes[entry]) for entry in entries]
    console = output.results()
    console.print(table(columns, rows, console.width))


@app.command("show")
def show(name: PluginName, kind: Kind = None, as_json: Json = False) -> None:
    """Show what a plugin is and its options."""
    from segctl.cli import plugin_page

    entry = _find(name, kind)
    with output.reserved():
        page = plugin_page.read(entry)
    if as_json:
        output.document({**_facts(entry, ""), **page.as_record()})
        return
    console = output.results()
    console.print(plugin_page.render(page, console.width))


@app.command("check")
def check(
    names: PluginNames = None,
    every: All = False,
    kind: Kind = None,
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Try plugins on everything that their contract asks; leave with 1 where one fails."""
    from segctl.cli import check_report
    from segctl.conformance import check_plugin
    from segctl.registry import discover

    if bool(names) == every:
        raise ConfigError("Nothing to check was named." if not every else "Both names and --all were given.", _WHICH)
    entries = [_find(name, kind) for name in names or ()]
    entries = entries or [entry for each in _kinds(kind) for entry in discover(each)]
    overview = None if as_json or not every else check_report.Overview(entries)
    root = data_root or os.environ.get("SEGCTL_DATA") or "data"
    reports: dict[tuple[str, str, str], Report] = {}
    for number, entry in enumerate(entries, 1):
        known = (entry.kind, entry.distribution, entry.target)  # a second name of what was checked already
        with output.busy(f"Checking {entry.name}, {number} of {len(entries)}"):
            report = reports.get(known) or check_plugin(entry, data_root=root)
        if overview:
            overview.show(entry, report, again=known in reports)
        elif not as_json:
            check_report.show(report)
        reports.setdefault(known, report)
    if as_json:
        output.document([check_report.record(report) for report in reports.values()])
    elif overview:
        typer.echo(check_report.summary(list(reports.values())))
    if not all(report.passed for report in reports.values()):
        raise typer.Exit(1)


_WHICH = "Give the names of plugins, or --all."


def _kinds(kind: str | None) -> tuple[str, ...]:
    """The kinds that are meant; the singular is understood too."""
    from segctl.registry import KIND_NAMES, KINDS

    if kind is None:
        return KINDS
    singular = {name.replace(" ", ""): each for each, name in KIND_NAMES.items()}
    each = singular.get(kind, kind)
    if each not in KINDS:
        raise ConfigError(
            f"{kind!r} is not a kind of plugin; there are {listing(KINDS)}.", did_you_mean(kind, [*KINDS, *singular])
        )
    return (each,)


def _find(name: str, kind: str | None) -> PluginEntry:
    """The one plugin of that name, of whichever kind."""
    from segctl.registry import KIND_NAMES, KINDS, discover, find

    kinds = _kinds(kind)
    bare = name.rpartition(":")[2]
    holding = [each for each in kinds if any(entry.name == bare for entry in discover(each))]
    if len(holding) == 1 or len(kinds) == 1:
        return find((holding or kinds)[0], name)
    if holding:
        shared = listing(KIND_NAMES[each] for each in holding)
        raise PluginError(f"{name!r} is the name of a {shared}.", f"Say --kind {' or --kind '.join(holding)}.")
    known = {entry.name for each in KINDS for entry in discover(each)}
    raise PluginError(f"There is no plugin {name!r}.", did_you_mean(name, known) or "'segctl plugins list' lists them.")


def _problems(entries: Sequence[PluginEntry]) -> dict[PluginEntry, str]:
    """Why a plugin cannot be used, or not by its bare name."""
    from segctl.import_check import failures

    found = {
        entry: f"also offered by {listing(rivals)}; say {entry.qualified}"
        for entry in entries
        if (rivals := [each.distribution for each in entries if _same_name(each, entry) and each != entry])
    }
    return {**found, **{entry: f"broken: {reason}" for entry, reason in failures(entries).items()}}


def _same_name(one: PluginEntry, other: PluginEntry) -> bool:
    return (one.kind, one.name) == (other.kind, other.name)


def _facts(entry: PluginEntry, problem: str) -> dict[str, Any]:
    return {
        "name": entry.name,
        "kind": entry.kind,
        "distribution": entry.distribution,
        "version": entry.version,
        "qualified": entry.qualified,
        "target": entry.target,
        "problem": problem,
    }
