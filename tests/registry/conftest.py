"""Little distributions of plugins, and another Python that has them on its import path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import installed
import pytest

BuildWheel = Callable[..., Path]
Install = Callable[..., Path]
RunPython = Callable[..., Any]


@pytest.fixture
def build_wheel(tmp_path: Path) -> BuildWheel:
    """``build_wheel(name, version, {"module.py": source}, models={"unet": "module:unet"})`` gives the wheel's path."""

    def build(name: str, version: str, files: Mapping[str, str], **plugins: Mapping[str, str]) -> Path:
        project = tmp_path / "projects" / f"{name}-{version}"
        project.mkdir(parents=True)
        tables = [
            f'[project.entry-points."segctl.{kind}"]\n'
            + "".join(f'{key} = "{target}"\n' for key, target in group.items())
            for kind, group in plugins.items()
        ]
        (project / "pyproject.toml").write_text(
            '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
            f'[project]\nname = "{name}"\nversion = "{version}"\n'
            + "\n".join(tables)
            + f"\n[tool.hatch.build.targets.wheel]\ninclude = {json.dumps(sorted(files))}\n"
        )
        for path, source in files.items():
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            (project / path).write_text(source)
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel"], cwd=project, check=True, capture_output=True
        )
        (wheel,) = (project / "dist").glob("*.whl")
        return wheel

    return build


@pytest.fixture
def install() -> Install:
    """``install(folder, name, version, files, models={...})``: a distribution as pip leaves it, in less time."""

    def write(folder: Path, name: str, version: str, files: Mapping[str, str], **plugins: Mapping[str, str]) -> Path:
        return installed.install(folder, name, files, version=version, **plugins)

    return write


@pytest.fixture
def run_python(tmp_path: Path) -> RunPython:
    """Runs code with folders first on the import path, and returns what it printed, read as JSON."""

    def run(code: str, path: Sequence[Path] = (), *, stderr: list[str] | None = None) -> Any:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
        }
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        if stderr is not None:
            stderr.append(done.stderr)
        return json.loads(done.stdout)

    return run
