"""Projects of files, with and without git, and a Python that has them on its import path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from projects import GIT, git, write

MakeProject = Callable[..., Path]
RunPython = Callable[..., Any]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeProject:
    """``project(name, files, git=True)`` makes a folder of files, committed where git is wanted."""
    for name, value in GIT.items():
        monkeypatch.setenv(name, value)

    def make(name: str, files: Mapping[str, str], *, commit: bool = True) -> Path:
        folder = write(tmp_path / name, files)
        if commit:
            git(folder, "init", "-q")
            git(folder, "add", ".")
            git(folder, "commit", "-q", "-m", "first")
        return folder

    return make


@pytest.fixture
def run_python(tmp_path: Path) -> RunPython:
    """``run_python(code, PYTHONPATH)``: what a fresh Python prints, read as JSON; its working directory is empty."""
    here = tmp_path / "working directory"
    here.mkdir()

    def run(code: str, *path: Path, refused: bool = False) -> Any:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
        words = [sys.executable, "-c", textwrap.dedent(code)]
        done = subprocess.run(words, env=environment, cwd=here, capture_output=True, text=True, timeout=120)
        assert bool(done.returncode) is refused, done.stderr
        return done.stderr if refused else json.loads(done.stdout)

    return run
