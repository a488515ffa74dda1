"""Runs that are followed, left, stopped and resumed, and what is said of those that fail."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from installed import install
from programs import LONG, SEGCTL, TINY, Said, status_of, wait_for
from terminal import CTRL_C, Terminal

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left_running")]


def test_detached_run_is_followed_cancelled_and_resumed(program: Callable[..., Said], tmp_path: Path) -> None:
    said = program(*TINY, *LONG, "--procs", "2", "--detach")
    assert said.code == 0, said.err
    run = said.out.strip()
    assert (tmp_path / "runs" / run / "run.json").is_file()
    wait_for(lambda: (status_of(program, run)["step"] or 0) >= 2)
    prefix = run[: len("20260101-000000")]
    assert status_of(program, prefix)["state"] == "RUNNING"
    assert program("resume", run).code == 1
    assert program("cancel", run).code == 0
    stopped = status_of(program, run)
    assert stopped["state"] == "CANCELLED"
    assert f"segctl resume {run}" in stopped["hint"]
    assert "training from step 0" in program("logs", run).out
    again = program("resume", run, "--procs", "1", "--detach")
    assert (again.code, again.out.strip()) == (0, run), again.err
    wait_for(lambda: (status_of(program, run)["step"] or 0) > stopped["step"])
    resumed = status_of(program, run)
    assert (resumed["attempt"], resumed["world_size"], resumed["state"]) == (2, 1, "RUNNING")


def test_ctrl_c_asks_once_and_stops_with_a_checkpoint(program: Callable[..., Said]) -> None:
    terminal = Terminal(*TINY, *LONG, "--name", "asked")
    try:
        terminal.wait_for(r"loss \d")
        terminal.type(CTRL_C)
        terminal.wait_for(r"Stop the run\? \[y/N\] .*stop\) ")
        terminal.type("n\n")
        terminal.wait_for(r"step \d+/\d+")
        assert status_of(program, "asked")["state"] == "RUNNING"
        terminal.type(CTRL_C)
        terminal.wait_for(r"Stop the run\? \[y/N\] .*stop\) ")
        terminal.type("y\n")
        code, screen = terminal.end()
    finally:
        terminal.kill()
    assert code == 130
    stopped = status_of(program, "asked")
    assert stopped["state"] == "CANCELLED"
    assert f"segctl resume {stopped['id']}" in screen
    assert list(Path(stopped["path"], "checkpoints").glob("step-*.pt"))
    assert "Traceback" not in screen


def test_second_ctrl_c_means_yes(program: Callable[..., Said]) -> None:
    terminal = Terminal(*TINY, *LONG, "--name", "hurried")
    try:
        terminal.wait_for(r"loss \d")
        terminal.type(CTRL_C)
        terminal.wait_for(r"Stop the run\? \[y/N\] .*stop\) ")
        terminal.type(CTRL_C)
        code, screen = terminal.end()
    finally:
        terminal.kill()
    assert code == 130, screen
    assert status_of(program, "hurried")["state"] == "CANCELLED"


def test_without_a_terminal_ctrl_c_stops_at_once(program: Callable[..., Said]) -> None:
    process = subprocess.Popen([SEGCTL, *TINY, *LONG], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    while "loss" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert out == ""
    assert status_of(program)["state"] == "CANCELLED"


def test_the_job_outlives_its_terminal(program: Callable[..., Said]) -> None:
    terminal = Terminal(*TINY, *LONG, "--name", "left-alone")
    try:
        terminal.wait_for(r"loss \d")
        terminal.close()
        terminal.process.wait(timeout=60)
    finally:
        terminal.kill()
    step = status_of(program, "left-alone")["step"]
    wait_for(lambda: (status_of(program, "left-alone")["step"] or 0) > step)


def test_the_traceback_of_the_rank_that_failed_is_shown(program: Callable[..., Said], tmp_path: Path) -> None:
    plugins = _install_plugin(tmp_path / "plugins")
    argv = [word if word != "enet" else "crashing" for word in TINY]
    said = program(*argv, "--procs", "2", env={**os.environ, "PYTHONPATH": str(plugins)})
    assert said.code == 1
    assert "Traceback" in said.err
    assert "ZeroDivisionError" in said.err
    assert said.err.splitlines()[-1].startswith("error: ")
    assert "rank 1" in said.err.splitlines()[-1]
    found = status_of(program)
    assert found["state"] == "FAILED"
    assert "ZeroDivisionError" in found["why"]


def _install_plugin(folder: Path) -> Path:
    """A distribution with a model that fails on its second process in training."""
    source = (
        "import os\nfrom torch import nn\n\n\n"
        "class Crashing(nn.Module):\n"
        "    '''A model that fails.'''\n\n"
        "    def __init__(self, num_classes):\n"
        "        super().__init__()\n"
        "        self.head = nn.Conv2d(3, num_classes, 1)\n\n"
        "    def forward(self, images):\n"
        "        if os.environ.get('RANK') == '1':\n"
        "            1 / 0\n"
        "        return self.head(images)\n"
    )
    return install(folder, "crashing", {"crashing.py": source}, models={"crashing": "crashing:Crashing"})


def test_an_error_of_the_users_in_the_job_is_one_sentence(program: Callable[..., Said], tmp_path: Path) -> None:
    argv = [*TINY, "--steps", "3", "--set", "optimizer.lr=1e30", "--set", "optimizer.name=sgd"]
    said = program(*argv)
    assert said.code == 1
    assert "Traceback" not in said.err
    assert said.err.splitlines()[-1].startswith("error: The ")
    assert "--lr" in said.err.splitlines()[-1]
