from __future__ import annotations

import shutil
from pathlib import Path

import camvid_tree
import pytest
from installed import install
from PIL import Image

NAMES = {"plain": "Plain", "sides": "Sides", "slow": "Slow", "hungry": "Hungry", "unions": "Unions", "served": "Served"}


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installs the toy data sets, for this process and those that it starts."""
    datasets = {name: f"toy_datasets_to_check:{target}" for name, target in NAMES.items()}
    folder = install(tmp_path / "toys", "toys", datasets=datasets)
    here = str(Path(__file__).parent)
    for path in (here, str(folder)):
        monkeypatch.syspath_prepend(path)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{here}")


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with CamVid's 701 samples, of which nothing is wrong; not to be changed."""
    root = tmp_path_factory.mktemp("clean")
    camvid_tree.make(root / "camvid")
    return root


@pytest.fixture
def faulty(clean: Path, tmp_path: Path) -> Path:
    """A copy of it with every fault of `camvid_tree.FAULTS`."""
    root = tmp_path / "faulty"
    shutil.copytree(clean, root)
    for _, _, plant in camvid_tree.FAULTS:
        plant(root / "camvid")
    return root


@pytest.fixture
def six(tmp_path: Path) -> Path:
    """Six images and masks in ``images/`` and ``masks/``."""
    root = tmp_path / "my"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(6):
        Image.fromarray(camvid_tree.picture(number)).save(root / "images" / f"p{number}.png")
        Image.fromarray(camvid_tree.labels(number) // 6).save(root / "masks" / f"p{number}.png")
    (root / "classes.yaml").write_text("names: [ground, thing]\n")
    return root
