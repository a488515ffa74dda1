from __future__ import annotations

from pathlib import Path

import pytest
from installed import install

NAMES = {"plain": "Plain", "sides": "Sides", "slow": "Slow", "hungry": "Hungry", "unions": "Unions", "served": "Served"}


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An import path on which the toy data sets are installed."""
    datasets = {name: f"toy_datasets_to_check:{target}" for name, target in NAMES.items()}
    folder = install(tmp_path / "toys", "toys", datasets=datasets)
    here = str(Path(__file__).parent)
    for path in (here, str(folder)):
        monkeypatch.syspath_prepend(path)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{here}")
    return f"{folder}:{here}"
