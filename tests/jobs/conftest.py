from __future__ import annotations

import os
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


@pytest.fixture
def paced(fragile_path: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The PYTHONPATH of ranks that know the data set paced_shapes, as this process does then: $TEST_PACE for a sample.

    Who waits for a step to stop a training after it needs one that cannot have ended by then.
    """
    monkeypatch.syspath_prepend(fragile_path)
    return os.pathsep.join(path for path in (fragile_path, os.environ.get("PYTHONPATH")) if path)
