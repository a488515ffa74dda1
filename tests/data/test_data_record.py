"""Which data a run is made on: the same digest for the same data anywhere, another one for others."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import camvid_tree
import numpy as np
import pytest
from PIL import Image

import segctl
from segctl import data_record
from segctl.cli.app import main
from segctl.runs.files import read_json
from segctl_datasets.folder import Folder
from segctl_datasets.pairs import Pair, PairDataset
from segctl_datasets.shapes import Shapes

TINY = {
    "model": "enet",
    "dataset": "folder",
    "train.steps": 2,
    "train.batch_size": 2,
    "train.workers": 0,
    "launch.gpus": 0,
    "augment.crop": None,
}


@pytest.fixture
def own(six: Path) -> Path:
    (six / "train.txt").write_text("p0\np1\np2\np3\n")
    (six / "val.txt").write_text("p4\np5\n")
    return six


def both(root: Path) -> dict[str, dict[str, object]]:
    return {split: data_record.digest(Folder(root, split), {}) for split in ("train", "val")}


def edit_mask(root: Path) -> None:
    """Other labels, of which the file gets another size."""
    noise = np.random.default_rng(0).integers(0, 2, (camvid_tree.HEIGHT, camvid_tree.WIDTH), np.uint8)
    Image.fromarray(noise).save(root / "masks/p4.png")


def test_a_copy_in_another_place_at_another_time_is_the_same(own: Path, tmp_path: Path) -> None:
    shutil.copytree(own, tmp_path / "there")
    for path in (tmp_path / "there").rglob("*.png"):
        os.utime(path, (1, 1))

    assert both(tmp_path / "there") == both(own)
    assert data_record.changes(both(own), both(tmp_path / "there"), "run") == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edit_mask, "val has files of another size"),
        (lambda root: (root / "val.txt").write_text("p5\np4\n"), "val has other samples, or in another order"),
        (lambda root: (root / "val.txt").write_text("p4\np5\np0\n"), "val has 3 samples instead of 2"),
        (
            lambda root: (root / "classes.yaml").write_text("names: {1: ground, 0: thing}\n"),
            "val has other classes, or other mask values stand for them",
        ),
    ],
)
def test_other_data_are_told_apart(own: Path, change, said: str) -> None:
    before = both(own)
    change(own)
    after = both(own)

    assert after["val"] != before["val"]
    told = data_record.changes(before, after, "that_run")
    assert told[-1] == f"The data are not those that that_run was submitted with: {said}."
    assert data_record.brief(before) != data_record.brief(after)


def test_of_many_files_the_sizes_of_some_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of seven samples, of which three are to be sized, these are 0, 3 and 6: images and masks alike."""
    monkeypatch.setattr(data_record, "SIZED", 3)
    pairs = [Pair(f"p{number}", f"x/{number}.png", f"y/{number}.png") for number in range(7)]
    for pair in pairs:
        for path in (tmp_path / pair.image, tmp_path / pair.mask):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"1")
    split = PairDataset(tmp_path, "train", pairs)
    told: dict[str, set[str]] = {"x": set(), "y": set()}
    for pair in pairs:
        for path in (pair.image, pair.mask):
            before = data_record.digest(split, {})
            (tmp_path / path).write_bytes(b"22")
            now = data_record.digest(split, {})
            assert {**now, "sizes": before["sizes"]} == before
            if now != before:
                told[path[0]].add(pair.name)

    assert told == {"x": {"p0", "p3", "p6"}, "y": {"p0", "p3", "p6"}}


def test_data_without_files_are_known_by_their_names_and_options(tmp_path: Path) -> None:
    few, more = (data_record.digest(Shapes(tmp_path, "val", eval_samples=count), {}) for count in (4, 5))
    larger = data_record.digest(Shapes(tmp_path, "val", eval_samples=4, size=96), {"size": 96})

    assert (few["samples"], few["sizes"]) == (4, None)
    assert len({few["names"], more["names"], larger["names"]}) == 3


@pytest.mark.parametrize("record", [None, "damaged", {"val": 3}, {"val": {}}, {"train": {"samples": 9}}])
def test_a_run_that_took_no_note_tells_nothing(own: Path, record: object) -> None:
    assert data_record.changes(record, {"val": both(own)["val"]}, "run") == ()


@pytest.mark.slow
def test_a_hundred_thousand_pairs_cost_a_second(tmp_path: Path) -> None:
    pairs = [Pair(f"{number:06d}", f"x/{number:06d}.jpg", f"y/{number:06d}.png") for number in range(120_000)]
    split = PairDataset(tmp_path, "train", pairs)
    took = []
    for _ in range(3):  # the least disturbed one counts
        began = time.process_time()
        assert data_record.digest(split, {})["samples"] == 120_000
        took.append(time.process_time() - began)

    assert min(took) < 1


@pytest.mark.slow
def test_runs_record_their_data_and_later_ones_say_what_has_changed(
    own: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = segctl.train(flags={**TINY, "data_root": str(own)}).run
    assert run is not None
    list(segctl.logs(run, follow=True))
    ((status,), expected) = segctl.status([run]), both(own)
    assert status.state == "COMPLETED"
    assert (read_json(run.run_file) or {})["data"] == status.data == expected
    assert not [notice for notice in segctl.evaluate(run, dry_run=True).notices if "not those" in notice]

    edit_mask(own)
    evaluation = segctl.evaluate(run)

    changed = f"The data are not those that {run.id} was submitted with: val has files of another size."
    assert changed in evaluation.notices
    assert evaluation.run is not None
    list(segctl.logs(evaluation.run, follow=True))
    assert (read_json(evaluation.run.run_file) or {})["data"] == {"val": both(own)["val"]}
    monkeypatch.setenv("COLUMNS", "250")
    capfd.readouterr()
    main(["status", run.id])
    assert data_record.brief(expected) in capfd.readouterr().out

    long = segctl.train(flags={**TINY, "data_root": str(own), "train.steps": 100_000}).run
    assert long is not None
    while segctl.status([long], max_age=0)[0].state != "RUNNING":
        time.sleep(0.3)
    segctl.cancel(long)
    while segctl.status([long], max_age=0)[0].state != "CANCELLED":
        time.sleep(0.3)
    (own / "train.txt").write_text("p0\np1\np2\n")
    resumed = segctl.resume(long)
    segctl.cancel(long)
    assert f"The data are not those that {long.id} was submitted with: train has 3 samples instead of 4." in (
        resumed.notices
    )
    while segctl.status([long], max_age=0)[0].state != "CANCELLED":
        time.sleep(0.3)


def test_the_check_says_the_same_digest(own: Path, capfd: pytest.CaptureFixture[str]) -> None:
    main(["data", "check", "folder", "--data-root", str(own), "--json"])

    splits = json.loads(capfd.readouterr().out)["splits"]
    assert {split["name"]: split["digest"] for split in splits} == both(own)
