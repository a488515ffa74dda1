from __future__ import annotations

from pathlib import Path

import pytest

NAMES = {"plain": "Plain", "sides": "Sides", "slow": "Slow", "hungry": "Hungry", "unions": "Unions", "served": "Served"}


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An import path on which the toy data sets are installed."""
    folder = tmp_path / "toys"
    metadata = folder / "toys-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    entries = "".join(f"{name} = toy_datasets_to_check:{target}\n" for name, target in NAMES.items())
    (metadata / "entry_points.txt").write_text(f"[segctl.datasets]\n{entries}")
    here = str(Path(__file__).parent)
    for path in (here, str(folder)):
        monkeypatch.syspath_prepend(path)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{here}")
    return f"{folder}:{here}"
