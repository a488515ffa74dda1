"""`segctl data check`: it finds what is planted, names it, and finds nothing where nothing is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import camvid_tree
import pytest

import segctl
from segctl.data_check.check import DataReport


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with CamVid's 701 samples, of which nothing is wrong."""
    root = tmp_path_factory.mktemp("clean")
    camvid_tree.make(root / "camvid")
    return root


def found(report: DataReport) -> set[tuple[str, str]]:
    return {(finding.kind, case.file) for finding in report.findings for case in finding.cases}


def test_nothing_is_found_where_nothing_is_wrong(clean: Path) -> None:
    report = segctl.check_data("camvid", data_root=clean)

    assert report.findings == ()
    assert {split.name: split.samples for split in report.splits} == camvid_tree.SPLITS


def test_every_planted_fault_is_found_and_nothing_else(clean: Path, tmp_path: Path) -> None:
    shutil.copytree(clean, tmp_path, dirs_exist_ok=True)
    for _, _, plant in camvid_tree.FAULTS:
        plant(tmp_path / "camvid")

    report = segctl.check_data("camvid", data_root=tmp_path)

    assert found(report) == {(kind, file) for kind, file, _ in camvid_tree.FAULTS}
    # Where several may have the same cause, each is there once.
    assert {finding.kind: finding.count for finding in report.findings if finding.count > 1} == {
        "unreadable-image": 2,
        "leak": 2,
    }
