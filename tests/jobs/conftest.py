from __future__ import annotations

from collections.abc import Iterator

import pytest
import ranks


@pytest.fixture
def no_rank_left_running() -> Iterator[None]:
    yield
    for process in ranks.started:
        process.kill()
        process.wait()
    ranks.started.clear()
