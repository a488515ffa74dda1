"""Runs are made whole or not at all, and found by whatever a person has at hand."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from segctl.errors import RunError
from segctl.runs import store

RECORD = {"kind": "train", "model": "enet", "dataset": "camvid"}


def test_a_run_is_complete_when_it_appears(tmp_path: Path) -> None:
    run = store.create("seed: 1\n", {**RECORD, "created": 1_700_000_000.0}, tmp_path / "deep" / "runs")

    assert re.fullmatch(r"202311\d\d-\d{6}-enet-camvid-[2-9a-z]{4}", run.id)
    assert run.config_file.read_text() == "seed: 1\n"
    record = json.loads(run.run_file.read_text())
    assert record["id"] == run.id
    assert record["host"] == os.uname().nodename
    assert record["created"] == 1_700_000_000.0
    assert [path.name for path in run.path.parent.iterdir()] == [run.id], "no temporary folder is left"
    assert run.path.is_absolute()


def test_a_name_becomes_part_of_the_id(tmp_path: Path) -> None:
    assert "-try.2-" in store.create("", {**RECORD, "name": "try.2"}, tmp_path).id


def test_other_users_may_read_a_run_as_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        run = store.create("", RECORD, tmp_path)
    finally:
        os.umask(before)
    assert run.path.stat().st_mode & 0o777 == 0o755


def test_where_nothing_can_be_written_nothing_is_left(tmp_path: Path) -> None:
    obstacle = tmp_path / "file"
    obstacle.write_text("not a folder")
    with pytest.raises(RunError, match=r"No run can be made in .*Not a directory"):
        store.create("", RECORD, obstacle / "runs")


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the write fails half-way."""
    code = (
        "import sys; from pathlib import Path; from segctl.errors import RunError; from segctl.runs import store\n"
        "try: store.create('x' * 5000, {'kind': 'train'}, Path(sys.argv[1]))\n"
        "except RunError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "runs")],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert "No run can be made in" in done.stdout
    assert "File too large" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_finding(tmp_path: Path) -> None:
    plain = store.create("", {**RECORD, "created": 1_600_000_000.0}, tmp_path)
    named = store.create("", {**RECORD, "created": 1_700_000_000.0, "name": "baseline"}, tmp_path)

    assert store.find(plain.id, tmp_path) == plain
    assert store.find("2020", tmp_path) == plain, "a start that only one id has"
    assert store.find(plain.id[-4:], tmp_path) == plain, "the random end"
    assert store.find("baseline", tmp_path) == named
    assert store.find(str(plain.path), tmp_path / "elsewhere") == plain
    assert store.find(plain.config_file, tmp_path / "elsewhere") == plain
    assert [run.id for run in store.all_runs(tmp_path)] == [named.id, plain.id], "newest first"


def test_what_cannot_be_told_apart_is_named(tmp_path: Path) -> None:
    runs = [store.create("", {**RECORD, "name": "again"}, tmp_path) for _ in range(2)]

    with pytest.raises(RunError) as caught:
        store.find("again", tmp_path)
    assert all(run.id in caught.value.message for run in runs)


@pytest.mark.parametrize("reference", ["nonsense", "", "./nowhere", "baselin"])
def test_what_is_not_there_is_said(tmp_path: Path, reference: str) -> None:
    run = store.create("", {**RECORD, "name": "baseline"}, tmp_path)
    with pytest.raises(RunError) as caught:
        store.find(reference, tmp_path)
    assert caught.value.hint
    assert run.id in caught.value.hint or "/" in reference


def test_an_empty_folder_says_how_to_name_another(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--runs-dir"):
        store.find("anything", tmp_path / "none")
    assert store.all_runs(tmp_path / "none") == []


def test_half_made_runs_and_strange_files_are_not_runs(tmp_path: Path) -> None:
    (tmp_path / ".new-abc").mkdir()
    (tmp_path / ".new-abc" / "run.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    assert store.all_runs(tmp_path) == []


def test_the_newest_that_fits(tmp_path: Path) -> None:
    older = store.create("", {**RECORD, "created": 5e8}, tmp_path)
    store.create("", {**RECORD, "created": 6e8, "model": "fcn"}, tmp_path)

    assert store.newest(lambda record: record.get("model") == "enet", tmp_path) == older
    assert store.newest(lambda record: record.get("model") == "unet", tmp_path) is None


def test_removing(tmp_path: Path) -> None:
    run = store.create("", RECORD, tmp_path)
    store.remove(run)
    assert list(tmp_path.iterdir()) == []


def test_the_runs_folder_comes_from_the_call_the_environment_or_is_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGCTL_RUNS", "/somewhere")
    assert store.runs_dir(Path("given")) == Path("given")
    assert store.runs_dir() == Path("/somewhere")
    monkeypatch.delenv("SEGCTL_RUNS")
    assert store.runs_dir() == Path("runs")
