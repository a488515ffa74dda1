"""Commands that people type all day are quick: they load neither torch nor what only a submission needs."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "submitit", "numpy")  # recent versions of Typer themselves use pydantic
COMMANDS = [
    ["--help"],
    ["--version"],
    ["train", "--help"],
    ["download", "--help"],
    ["status"],
    ["status", "--json"],
    ["plugins", "list"],
    ["plugins", "list", "--json"],
    ["recipes"],
]


def _without(modules: tuple[str, ...], argv: list[str]) -> list[str]:
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({modules!r})); from segctl.cli.app import main; sys.exit(main())"
    )
    return [sys.executable, "-c", code, *argv]


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_light_commands_import_nothing_heavy(argv: list[str]) -> None:
    modules = HEAVY if argv[-1] != "--help" else (*HEAVY, "yaml", "requests")
    done = subprocess.run(_without(modules, argv), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout or argv == ["status"]


@pytest.mark.parametrize("command", ["logs", "cancel", "requeue", "status", "why"])
def test_light_commands_need_nothing_heavy_to_refuse(command: str) -> None:
    done = subprocess.run(
        _without(HEAVY, [command, "nothing"]), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: There is no run 'nothing'")


def test_the_functions_behind_them_do_without_pydantic() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'submitit', 'pydantic', 'numpy']));"
        "import segctl, segctl.registry, segctl.import_check, segctl.config.shipped;"
        "segctl.status(); segctl.logs; segctl.cancel; segctl.why; segctl.config.shipped.recipes();"
        "segctl.import_check.failures(segctl.registry.discover('models'))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("argv", [["--help"], ["status"], ["plugins", "list"]], ids=" ".join)
def test_light_commands_take_twice_an_empty_command_line_at_most(argv: list[str]) -> None:
    make_runs(Path(os.environ["SEGCTL_RUNS"]), 1000)
    bare, ours = [], []
    for _ in range(8):  # in turns, and the least of each: what else the machine does must not decide
        bare.append(_seconds([sys.executable, "-c", "import typer, rich.table"]))
        ours.append(_seconds([sys.executable, "-m", "segctl.cli", *argv]))
        if min(ours) < 2 * min(bare) + 0.3:
            return
    raise AssertionError(f"{ours} against {bare}")


def _seconds(command: list[str]) -> float:
    """Processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def make_runs(folder: Path, count: int) -> None:
    """Runs that have completed, by the files that a run leaves."""
    now = time.time()
    attempt = {"number": 1, "submitted": now, "host": os.uname().nodename, "pid": 1, "pid_started": "x/1"}
    figures = {"phase": "completed", "step": 10, "steps": 10, "epoch": 1.0, "epochs": 1.0, "miou": 0.5}
    for number in range(count):
        run = folder / f"20260101-{number:06d}-enet-camvid-abcd"
        run.mkdir(parents=True)
        contents = {
            "run": {"kind": "train", "model": "enet", "dataset": "camvid", "created": now + number, "id": run.name},
            "submission": {"backend": "local", "attempts": [attempt]},
            "supervisor": {"attempt": 1, "state": "COMPLETED", "started": now, "ended": now},
            "status": {"attempt": 1, "heartbeat": now, **figures},
        }
        for name, content in contents.items():
            (run / f"{name}.json").write_text(json.dumps(content))
