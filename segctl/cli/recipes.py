"""``segctl recipes``: what `segctl train NAME` can be given without writing a file."""

from __future__ import annotations

from segctl.cli import options, output


def recipes(as_json: options.Json = False) -> None:
    """List the recipes that come with segctl."""
    from segctl.cli.table import Column, Row, table
    from segctl.config import shipped

    found = [(name, path, shipped.recipe_description(path)) for name, path in shipped.recipes().items()]
    if as_json:
        output.document([{"name": name, "path": str(path), "description": text} for name, path, text in found])
        return
    console = output.results()
    rows = [Row((name,), note=text) for name, _, text in found]
    console.print(table((Column("RECIPE"),), rows, console.width))
