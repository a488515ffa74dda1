"""The commands and their flags are a promise to everybody's scripts: this list changes only on purpose."""

from __future__ import annotations

from typing import Any

import typer

from segctl.cli.app import app

PLACE = {"--on", "--nodes", "--gpus", "--procs", "--time", "--partition", "--slurm"}
LAUNCH = {*PLACE, "--name", "--data-root", "--runs-dir"}
CHOICE = {"--model", "--backbone", "--dataset"}
SUBMIT = {"--set", "--plugin-option", "--snapshot", "--no-snapshot", "--detach", "--dry-run", "--json"}

COMMANDS: dict[str, tuple[str, set[str]]] = {
    "train": (
        "[recipe]",
        {"--loss", "--lr", "--epochs", "--steps", "--batch-size", "--seed", "--after", "--then"}
        | {"--sweep", "--max-running", *CHOICE, *LAUNCH, *SUBMIT},
    ),
    "eval": (
        "[run]",
        {"--checkpoint", "--split", "--mode", "--scales", "--flip", "--no-flip", "--save-predictions", "--submission"}
        | {*CHOICE, *LAUNCH, *SUBMIT},
    ),
    "predict": ("run images...", {"--out", "-o", "--checkpoint", "--runs-dir", "--json"}),
    "export": (
        "run",
        {"--format", "--out", "-o", "--checkpoint", "--samples", "--data-root", "--runs-dir", "--json"},
    ),
    "status": ("[runs...]", {"--watch", "--runs-dir", "--json"}),
    "why": ("run", {"--runs-dir", "--json"}),
    "logs": ("run", {"--follow", "-f", "--rank", "--runs-dir"}),
    "cancel": ("run", {"--runs-dir", "--json"}),
    "requeue": ("run", {"--runs-dir", "--json"}),
    "resume": ("run", {*PLACE, "--runs-dir", "--detach", "--json"}),
    "bench": (
        "models...",
        {"--backbone", "--yardstick", "--size", "--batch", "--batch-size", "--num-classes", "--device", "--amp"}
        | {"--compile", "--seconds", "--plugin-option", "--json"},
    ),
    "drill": (
        "[recipe]",
        {"--loss", "--lr", "--batch-size", "--seed", "--steps", "--only", "--keep", "--set", "--plugin-option"}
        | {"--snapshot", "--no-snapshot", "--json", *CHOICE, *LAUNCH} - {"--name"},
    ),
    "data check": ("name", {"--split", "--workers", "--plugin-option", "--data-root", "--json"}),
    "data show": (
        "name [samples...]",
        {"--out", "-o", "--split", "--count", "--draws", "--recipe", "--set", "--seed", "--plugin-option"}
        | {"--data-root", "--json"},
    ),
    "download": (
        "[names...]",
        {"--all", "--from", "--mirror", "--keep-archives", "--at-once", "--on", "--data-root", "--runs-dir"}
        | {"--detach", "--json"},
    ),
    "data prepare": ("name", {"--data-root", "--json"}),
    "recipes": ("", {"--json"}),
    "plugins list": ("[kind]", {"--json"}),
    "plugins show": ("name", {"--kind", "--json"}),
    "profiles list": ("", {"--json"}),
    "profiles show": ("name", {"--json"}),
    "profiles check": ("name", {"--no-job", "--runs-dir", "--json"}),
    "weights import": (
        "file",
        {"--out", "-o", "--model", "--num-classes", "--partial", "--plugin-option", "--json"},
    ),
    "weights dunet-upsampling": ("", {"--dataset", "--out", "-o", "--data-root", "--plugin-option", "--json"}),
    "plugins check": ("[names...]", {"--all", "--kind", "--data-root", "--json"}),
}


def test_commands_and_flags_are_as_promised() -> None:
    found = dict(_commands("", typer.main.get_command(app)))
    assert set(found) == set(COMMANDS)
    for name, promised in COMMANDS.items():
        assert found[name] == promised, name


def test_the_program_itself_has_a_version_and_completion() -> None:
    flags = {flag for param in typer.main.get_command(app).params for flag in param.opts}
    assert flags == {"--version", "--install-completion", "--show-completion"}


def _commands(prefix: str, command: Any) -> list[tuple[str, tuple[str, set[str]]]]:
    if hasattr(command, "commands"):
        return [
            found for name, below in command.commands.items() for found in _commands(f"{prefix} {name}".strip(), below)
        ]
    arguments = [_argument(param) for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option"]
    flags = {flag for param in options for flag in (*param.opts, *param.secondary_opts)}
    return [(prefix, (" ".join(arguments), flags))]


def _argument(param: Any) -> str:
    name = f"{param.name}..." if param.nargs == -1 else str(param.name)
    return name if param.required else f"[{name}]"
