from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from programs import SEGCTL, Said

from segctl.cli.app import main


@pytest.fixture
def segctl(capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The entry point, called in this process (which imports torch once for all tests)."""

    def call(*argv: str | Path) -> Said:
        capfd.readouterr()
        code = main([str(word) for word in argv])
        captured = capfd.readouterr()
        return Said(code, captured.out, captured.err)

    return call


@pytest.fixture
def program() -> Callable[..., Said]:
    """The installed program, in a process of its own."""

    def call(*argv: str | Path, timeout: float = 240, **kwargs: Any) -> Said:
        words = [SEGCTL, *map(str, argv)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False, **kwargs)
        return Said(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def nothing_left_running(program: Callable[..., Said]) -> Iterator[None]:
    """Ends what a test that failed has left."""
    yield
    for run in json.loads(program("status", "--json").out):
        if run["state"] in ("PENDING", "RUNNING", "STALLED", "REQUEUED"):
            program("cancel", run["id"])
