"""Shared fixtures, and which tests run when.

Tests run against real parts; what they may not touch is the user's own runs, configuration and queue. `pytest` runs the
fast tests, `pytest --slow` the others too. With CI=true all of them run, and one that was skipped is a failure.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from installed import install

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests share few cores; tiny models gain nothing from more threads


# A shell starts background jobs with SIGINT ignored, nohup those of SIGHUP, and children inherit that; tests send both.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

IN_CI = bool(os.environ.get("CI"))
SLOW_SECONDS = 600  # several starts of torch, one after the other: what they wait for has its own, shorter patience


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Fast tests first. The slow ones are left out unless asked for, by --slow, by CI, with -m or by name."""
    asked = IN_CI or config.getoption("--slow") or config.getoption("-m") or any("::" in name for name in config.args)
    slow = [item for item in items if item.get_closest_marker("slow")]
    fast = [item for item in items if not item.get_closest_marker("slow")]
    for item in slow:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))
    items[:] = fast + slow if asked else fast
    if not asked:
        config.hook.pytest_deselected(items=slow)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    if IN_CI and skipped:
        terminalreporter.section("skipped tests are failures in CI")
        for report in skipped:
            terminalreporter.line(f"{report.nodeid}: {report.longrepr[-1] if report.longrepr else ''}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if IN_CI and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def isolated_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has its own runs folder and its own local queue, and none inherits a job's or a user's settings."""
    for name in list(os.environ):
        if name.startswith(("SEGCTL_", "SLURM_", "SUBMITIT_")) and not name.startswith("SEGCTL_TEST_"):
            monkeypatch.delenv(name)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SEGCTL_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SEGCTL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))  # profiles
    monkeypatch.setenv("COLUMNS", "200")  # where a table breaks its lines must not depend on the length of tmp_path


@pytest.fixture
def fragile_path(tmp_path: Path) -> str:
    """A folder that, on the import path, has the model and the data sets of fragile_plugin.py installed."""
    datasets = {"slow_shapes": "fragile_plugin:SlowShapes", "paced_shapes": "fragile_plugin:PacedShapes"}
    module = Path(__file__).with_name("fragile_plugin.py")
    models = {"fragile": "fragile_plugin:fragile"}
    return str(install(tmp_path / "plugins", "fragile", {module.name: module}, models=models, datasets=datasets))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real photographs and masks that are not ours to distribute; see its MANIFEST.md."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SEGCTL_TEST_DATA", beside))
    if not (folder / "MANIFEST.md").is_file():
        pytest.skip(f"no real test data at {folder}; set SEGCTL_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def reference_vectors() -> dict[str, Any]:
    """Inputs of losses and metrics with what they must give, computed in float64 by independent methods."""
    import torch

    beside = Path(__file__).resolve().parents[2] / "shared" / "reference"
    file = Path(os.environ.get("SEGCTL_TEST_REFERENCE", beside)) / "vectors.pt"
    if not file.is_file():
        pytest.skip(f"no reference vectors at {file}; set SEGCTL_TEST_REFERENCE")
    return dict(torch.load(file, weights_only=True))
