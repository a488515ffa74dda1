"""``segctl``: the commands and where each of them lives. Nothing is decided here, and nothing heavy is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from segctl.cli import (
    bench,
    data,
    download,
    drill,
    evaluate,
    export,
    plugins,
    predict,
    profiles,
    recipes,
    runs,
    train,
    weights,
    why,
)
from segctl.cli.argv import gather_plugin_options
from segctl.cli.failures import guarded

app = typer.Typer(
    name="segctl",
    help="Launch, track and evaluate semantic-segmentation training on this machine or a cluster.",
    pretty_exceptions_enable=False,
)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("export")(export.export)
app.command("status")(runs.status)
app.command("why")(why.why)
app.command("logs")(runs.logs)
app.command("cancel")(runs.cancel)
app.command("requeue")(runs.requeue)
app.command("resume")(train.resume)
app.command("bench")(bench.bench)
app.command("download")(download.download)
app.command("drill")(drill.drill)
app.command("recipes")(recipes.recipes)
app.add_typer(plugins.app, name="plugins")
app.add_typer(profiles.app, name="profiles")
app.add_typer(weights.app, name="weights")
app.add_typer(data.app, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        from segctl import __version__

        typer.echo(f"segctl {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    pass


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point: parses, runs the command and returns the exit code (see `failures`)."""
    if "_SEGCTL_COMPLETE" in os.environ:  # the shell asks for completions of the line being typed
        app(prog_name="segctl")
    return guarded(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: Sequence[str]) -> int:
    # Not `app(...)`: Typer's own main turns Ctrl-C, a closed pipe and usage errors into exit codes that are not ours.
    command = typer.main.get_command(app)
    words = gather_plugin_options(argv)
    words = [*words, "--help"] if words in ([], ["plugins"], ["profiles"], ["weights"], ["data"]) else words
    with command.make_context("segctl", words) as context:
        command.invoke(context)
    return 0
