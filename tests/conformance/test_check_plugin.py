"""The kit on installed plugins: every built-in one keeps the contract, and a broken one is a report, not a crash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from segctl import registry
from segctl.conformance import Report, check_plugin

# The others take up to half a minute each: deep ones are slow to trace for torch.compile and torch.export.
QUICK_MODELS = {"fast_scnn"}


def built_in(kind: str) -> list[registry.PluginEntry]:
    """One for each target: psp is another name of pspnet."""
    entries = [entry for entry in registry.discover(kind) if entry.distribution == "segctl"]
    return list({entry.target: entry for entry in entries}.values())


def require_passed(report: Report) -> None:
    assert report.passed, [(check.name, check.detail) for check in report.failures]


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry, id=entry.name, marks=() if entry.name in QUICK_MODELS else pytest.mark.slow)
        for entry in built_in("models")
    ],
)
def test_every_built_in_model_passes(entry: registry.PluginEntry, tmp_path: Path) -> None:
    report = check_plugin(entry, data_root=tmp_path)

    require_passed(report)
    assert not report.skipped


@pytest.mark.parametrize("entry", built_in("losses"), ids=lambda entry: entry.name)
def test_every_built_in_loss_passes(entry: registry.PluginEntry, tmp_path: Path) -> None:
    report = check_plugin(entry, data_root=tmp_path)

    require_passed(report)
    assert not report.skipped


@pytest.mark.parametrize("entry", built_in("datasets"), ids=lambda entry: entry.name)
def test_every_built_in_data_set_passes_without_its_data(entry: registry.PluginEntry, tmp_path: Path) -> None:
    report = check_plugin(entry, data_root=tmp_path)

    require_passed(report)
    assert (report.kind, report.name, report.distribution) == ("datasets", entry.name, "segctl")
    needs_files = bool(getattr(entry.load(), "layout", ()))
    assert bool(report.skipped) == needs_files


@pytest.mark.parametrize(("name", "folder"), [("camvid", ""), ("pascal_voc", "samples")])
def test_data_sets_pass_on_real_data(name: str, folder: str, test_data: Path) -> None:
    report = check_plugin(registry.find("datasets", name), data_root=test_data / folder)

    require_passed(report)
    outcomes = {check.name: check for check in report.checks}
    assert outcomes["items"].passed, outcomes["opens"].detail


def test_a_plugin_that_cannot_be_imported_is_one_failed_check(tmp_path: Path) -> None:
    entry = registry.PluginEntry("models", "unet", "other-package", "1.0", "no_such_package.unet:unet")

    report = check_plugin(entry, data_root=tmp_path)

    assert not report.passed
    assert [check.name for check in report.checks] == ["imports"]
    assert "no_such_package" in report.checks[0].detail


def test_nothing_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['numpy'] = sys.modules['pydantic'] = None; "
        "from segctl.conformance import Check, Report; import segctl.conformance; "
        "print(sorted(set(segctl.conformance.__all__) - set(dir(segctl.conformance))))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "check_model" in done.stdout
