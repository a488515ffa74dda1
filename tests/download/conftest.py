from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from planted import plant
from server import Server, serving

from segctl.plugin import Archive


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Installs a data set `toy` that is published as these archives; gives the folder for the import path."""

    def install(*archives: Archive, name: str = "toy", **more: object) -> str:
        folder = plant(tmp_path / f"plugin-{name}", {name: archives}, **more)  # type: ignore[arg-type]
        monkeypatch.syspath_prepend(folder)
        return folder

    return install
