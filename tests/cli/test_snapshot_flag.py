"""--snapshot on the command line; what it freezes is tested in tests/snapshot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from programs import TINY, Said

import segctl as package
from segctl.local_code import is_installed


def test_a_dry_run_says_what_would_be_frozen(segctl: Callable[..., Said]) -> None:
    source = Path(package.__file__).resolve().parents[1]
    expected = "Nothing has to be frozen" if is_installed(source) else "The snapshot holds segctl, segctl_datasets, "

    said = segctl(*TINY, "--snapshot", "--dry-run", "--json")

    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["config"]["launch"]["snapshot"] is True
    (notice,) = [notice for notice in found["notices"] if notice.startswith(expected)]
    assert is_installed(source) or f" MiB, of {source}." in notice
    assert not any(word in notice for word in ("torch", "pytest", "programs", "conftest"))
    plain = json.loads(segctl(*TINY, "--dry-run", "--json").out)
    assert plain["config"]["launch"]["snapshot"] is False
    assert not [notice for notice in plain["notices"] if notice.startswith(expected)]
