"""A model in its own distribution: built as a wheel, installed into an environment, trained, evaluated, removed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from environment import Environment
from programs import TINY, Said

pytestmark = pytest.mark.slow

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "1.0"

[project.entry-points."segctl.models"]
{entries}

[tool.hatch.build.targets.wheel]
include = ["{module}.py"]
"""
STRIPES = '''
from __future__ import annotations

from typing import Literal

import torch
from torch import nn


class Stripes(nn.Module):
    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images))


def stripes(num_classes: int, *, width: Literal[4, 8] = 4) -> nn.Module:
    """Two convolutions, for a test.

    Args:
        width: Channels in between.
    """
    return Stripes(num_classes, width)
'''
BROKEN = "import a_package_that_nobody_has\n"


def build(folder: Path, name: str, module: str, source: str, entries: str) -> Path:
    project = folder / name
    project.mkdir()
    (project / "pyproject.toml").write_text(PROJECT.format(name=name, module=module, entries=entries))
    (project / f"{module}.py").write_text(source)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel"], cwd=project, check=True, capture_output=True
    )
    (wheel,) = (project / "dist").glob("*.whl")
    return wheel


@pytest.fixture
def own(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "venv")


@pytest.fixture
def installed(tmp_path: Path, own: Environment) -> Callable[..., None]:
    """``installed(name, module, source, entries)`` installs a distribution into the test's environment."""

    def install(name: str, module: str, source: str, entries: str) -> None:
        own.pip("install", "--no-deps", "--no-index", build(tmp_path, name, module, source, entries))

    return install


@pytest.fixture
def program(own: Environment) -> Callable[..., Said]:
    """The program of the test's environment, in a process of its own."""

    def call(*argv: str) -> Said:
        words = [str(own.python), "-m", "segctl.cli", *argv]
        done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
        return Said(done.returncode, done.stdout, done.stderr)

    return call


def rows(program: Callable[..., Said], name: str) -> list[dict[str, Any]]:
    said = program("plugins", "list", "models", "--json")
    assert said.code == 0, said.err
    return [row for row in json.loads(said.out) if row["name"] == name]


def test_a_models_life(own: Environment, installed: Callable[..., None], program: Callable[..., Said]) -> None:
    assert not rows(program, "stripes")
    installed("segctl-test-stripes", "segctl_test_stripes", STRIPES, 'stripes = "segctl_test_stripes:stripes"')
    (row,) = rows(program, "stripes")
    assert row["distribution"] == "segctl-test-stripes"
    assert "width" in program("plugins", "show", "stripes").out
    checked = program("plugins", "check", "stripes")
    assert checked.code == 0, checked.out + checked.err

    words = ["train", "--model", "stripes", "--model.width", "8", *TINY[3:], "--epochs", "1"]
    trained = program(*words)
    assert trained.code == 0, trained.err
    assert "mIoU" in trained.out
    evaluated = program("eval", "--model", "stripes", "--json")
    assert evaluated.code == 0, evaluated.err
    (run,) = [run for run in json.loads(program("status", "--json").out) if run["kind"] == "train"]
    assert json.loads(evaluated.out)["measures"]["miou"] == run["miou"]
    refused = program("train", "--model", "stripes", "--model.width", "5", *TINY[3:])
    assert refused.code == 1
    assert "model.width" in refused.err
    assert "4 and 8" in refused.err or "4, 8" in refused.err or "4 or 8" in refused.err

    own.pip("uninstall", "-y", "segctl-test-stripes")
    assert not rows(program, "stripes")
    gone = program(*words)
    assert gone.code == 1
    assert "stripes" in gone.err
    assert program("status").code == 0, "a run of a model that is gone is still a run"
    assert program("eval", "--model", "stripes").code == 1


def test_a_broken_one_is_a_row_and_nobody_elses_trouble(
    installed: Callable[..., None], program: Callable[..., Said]
) -> None:
    installed("segctl-test-broken", "segctl_test_broken", BROKEN, 'broken = "segctl_test_broken:broken"')
    (row,) = rows(program, "broken")
    assert "a_package_that_nobody_has" in json.dumps(row)
    assert program(*TINY, "--epochs", "1", "--dry-run").code == 0
    used = program("train", "--model", "broken", *TINY[3:])
    assert used.code == 1
    assert "a_package_that_nobody_has" in used.err
    assert "Traceback" not in used.err


def test_a_name_that_two_offer_needs_its_distribution(
    installed: Callable[..., None], program: Callable[..., Said]
) -> None:
    installed("segctl-test-clash", "segctl_test_clash", STRIPES, 'enet = "segctl_test_clash:stripes"')
    bare = program(*TINY, "--epochs", "1", "--dry-run")
    assert bare.code == 1
    assert "segctl:enet" in bare.err
    assert "segctl-test-clash:enet" in bare.err
    for name in ("segctl:enet", "segctl-test-clash:enet"):
        said = program("train", "--model", name, *TINY[3:], "--epochs", "1", "--dry-run")
        assert said.code == 0, said.err
