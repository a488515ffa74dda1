"""A distribution of toy plugins, found like any other, so that configurations are resolved without torch."""

from __future__ import annotations

from pathlib import Path

import pytest

SOURCE = """
from __future__ import annotations
from pathlib import Path
from typing import Literal
from segctl.plugin import model

def plain(num_classes: int, *, backbone: Literal["small", "large"] = "small", width: int = 8, tag: str = ""): ...

@model(loss="toy_dice", loss_options={"smooth": 2.0})
def special(num_classes: int, *, depth: int = 3, weights: Path | None = None): ...

class Roads:
    classes = ("road", "rest")
    def __init__(self, root: Path, split: str, *, year: int = 2012) -> None: ...

class Dice:
    def __init__(self, *, smooth: float = 1.0, weights: list[float] | Literal["auto"] | None = None) -> None: ...

class Jaccard:
    def __init__(self, *, smooth: float = 1.0, power: int = 1) -> None: ...

class Blur:
    def __init__(self, *, smooth: bool = False) -> None: ...
"""

ENTRY_POINTS = """
[segctl.models]
toy_plain = toy_config_plugins:plain
toy_special = toy_config_plugins:special
[segctl.datasets]
toy_roads = toy_config_plugins:Roads
[segctl.losses]
toy_dice = toy_config_plugins:Dice
toy_jaccard = toy_config_plugins:Jaccard
toy_blur = toy_config_plugins:Blur
"""


@pytest.fixture(autouse=True)
def toys(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path_factory.mktemp("site")
    (site / "toy_config_plugins.py").write_text(SOURCE)
    (site / "toys-1.0.dist-info").mkdir()
    (site / "toys-1.0.dist-info" / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(site)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A small recipe, for tests to lay flags over."""
    path = tmp_path / "roads.yaml"
    path.write_text(
        "# Toy roads.\n"
        "# Only for tests.\n"
        "name: roads\n"
        "model: {name: toy_plain, backbone: large}\n"
        "dataset: toy_roads\n"
        "train: {steps: 100, batch_size: 4}\n"
        "optimizer: {lr: 1e-3}\n"
        "eval:\n"
    )
    return path
