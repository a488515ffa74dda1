"""A real SLURM for the tests below this folder; see README.md. Where there can be none, they are skipped."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from cluster import Cluster, started, why_not

SEGCTL = str(Path(sys.executable).with_name("segctl"))


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker("slow")
    item.add_marker("slurm")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if reason := why_not():
        pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows what SLURM wrote when a test failed: its logs end with the cluster."""
    report = yield
    if report.failed:
        report.sections += [
            ("SLURM's logs", each.last_words())
            for each in getattr(item, "funcargs", {}).values()
            if isinstance(each, Cluster)
        ]
    return report


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three nodes with accounting, for all tests of the session; as new at the start of each."""
    with started() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def cluster_without_accounting() -> Iterator[Cluster]:
    with started(accounting=False) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def on_cluster(
    request: pytest.FixtureRequest, isolated_environment: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Commands of a test find the cluster that it asks for, which is mended afterwards. A session's two do not mix."""
    used = [
        request.getfixturevalue(name)
        for name in ("cluster", "cluster_without_accounting")
        if name in request.fixturenames
    ]
    for each in used:
        for name, value in each.environment.items():
            monkeypatch.setenv(name, value)
    yield
    for each in used:
        each.restore()


@pytest.fixture
def segctl(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Calls the installed program in a process of its own, on the test's cluster and with its own runs folder."""

    def call(*argv: object, seconds: float = 120, check: bool = False) -> subprocess.CompletedProcess[str]:
        words = [SEGCTL, *map(str, argv)]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=seconds, check=False)
        if check:
            assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
        return done

    return call
