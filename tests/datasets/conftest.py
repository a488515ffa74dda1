"""Folders of images and masks that several test files start from."""

from __future__ import annotations

from pathlib import Path

import pytest
from folder_files import ROWS, make


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    """A folder of ten images and their masks."""
    return make(tmp_path, {f"img_{number}": ROWS for number in range(10)})
