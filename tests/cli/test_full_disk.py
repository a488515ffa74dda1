"""A disk that is full, or fills up, at any moment."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from programs import TINY, Said

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("pages", [1, 2, 3])
def test_a_full_disk_leaves_nothing_half_written(pages: int, program: Callable[..., Said], tmp_path: Path) -> None:
    """The configuration, run.json or the record of the submission is the first that finds no room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with _little_room(disk, pages) as limits:
        said = program(*TINY, "--runs-dir", disk, **limits)
        left = list(disk.iterdir())
    assert said.code == 1
    assert said.err.splitlines()[-1].startswith("error: ")
    assert any(os.strerror(number) in said.err.splitlines()[-1] for number in (errno.ENOSPC, errno.EFBIG))
    assert "Traceback" not in said.err
    assert left == []


@contextmanager
def _little_room(folder: Path, pages: int) -> Iterator[dict[str, Any]]:
    """A disk of a few pages at `folder`; where mounting one is not permitted, files that cannot grow far."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={pages * 4}k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        yield {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))}
        return
    try:
        yield {}
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_that_fills_up_while_training_is_said(program: Callable[..., Said], tmp_path: Path) -> None:
    limit = 300_000  # a checkpoint is larger, all else is smaller
    said = program(*TINY, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert said.code == 1
    assert "Traceback" not in said.err
    assert "checkpoint" in said.err.splitlines()[-1]
    assert not list((tmp_path / "runs").glob("*/checkpoints/*.pt"))
