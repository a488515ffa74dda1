"""Counting the pixels of each class: right, shared between processes, and once while the masks stay."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from processes import in_processes

from segctl import registry
from segctl.config.schema import Config, Plugin
from segctl.plugin import dataset_info
from segctl.runs.files import cache_folder
from segctl_jobs.class_pixels import count_class_pixels
from segctl_jobs.distributed import World

ALONE = World(0, 1, 0, 1, torch.device("cpu"))
MASKS = [[[0, 0, 1], [1, 2, 255]], [[2, 2, 2], [0, 255, 255]], [[0, 0, 0], [0, 0, 0]]]
COUNTS = [9, 2, 4]  # of the classes 0, 1 and 2, worked out by hand


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of the user's own: three images to train on, one to validate."""
    root = tmp_path / "data" / "folder"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    (root / "classes.yaml").write_text("names: [a, b, c]\n")
    for index, mask in enumerate([*MASKS, MASKS[0]]):
        Image.fromarray(np.array(mask, np.uint8)).save(root / "masks" / f"{index}.png")
        Image.new("RGB", (3, 2)).save(root / "images" / f"{index}.png")
    (root / "train.txt").write_text("0\n1\n2\n")
    (root / "val.txt").write_text("3\n")
    return root


def count(data: Path, run: str, world: World = ALONE, **options: Any) -> tuple[list[int], int]:
    """What the run of that name counts, as a job does, and how many masks this process read for it."""
    config = Config(
        model=Plugin(name="enet"), dataset=Plugin(name="folder", options=options), data_root=str(data.parent)
    )
    dataset = registry.open_dataset(config.dataset, config.data_root, "train")
    read, mask = [], dataset.mask
    dataset.mask = lambda index: read.append(index) or mask(index)
    counts = count_class_pixels(dataset, dataset_info(dataset), world, config, data.parent / f"{run}.json")
    return counts, len(read)


def test_pixels_are_counted_without_ignored_ones(data: Path) -> None:
    assert count(data, "first") == (COUNTS, 3)


def test_a_second_run_on_the_same_data_reads_no_mask(data: Path) -> None:
    count(data, "first")

    assert count(data, "second") == (COUNTS, 0)
    assert json.loads((data.parent / "second.json").read_text()) == {"class_pixels": COUNTS}


def test_a_mask_that_changed_is_counted_anew(data: Path) -> None:
    count(data, "first")
    Image.fromarray(np.full((2, 3), 1, np.uint8)).save(data / "masks" / "2.png")

    assert count(data, "second") == ([3, 8, 4], 3)
    assert count(data, "third") == ([3, 8, 4], 0)


def test_a_mask_is_not_taken_for_another_of_the_same_size_and_time(data: Path) -> None:
    """`cp --preserve` and the like keep a file's time of modification."""
    masks = [data / "masks" / f"{index}.png" for index in (0, 3)]
    shutil.copy2(masks[0], masks[1])
    Image.fromarray(np.array([[0, 0, 2], [2, 1, 255]], np.uint8)).save(masks[1])
    assert masks[0].stat().st_size == masks[1].stat().st_size
    os.utime(masks[1], ns=(masks[0].stat().st_atime_ns, masks[0].stat().st_mtime_ns))
    count(data, "first")

    shutil.copy2(masks[1], masks[0])

    assert count(data, "second") == ([9, 1, 5], 3)


def test_what_the_values_stand_for_and_which_masks_there_are_count_too(data: Path) -> None:
    count(data, "first")
    (data / "train.txt").write_text("0\n1\n")
    assert count(data, "fewer") == ([3, 2, 4], 2)
    (data / "classes.yaml").write_text("names: [a, b, c]\nvalues: [2, 1, 0]\n")
    assert count(data, "swapped") == ([4, 2, 3], 2)
    (data / "classes.yaml").write_text("names: [a, b]\nignore: [2, 255]\n")
    assert count(data, "two classes") == ([3, 2], 2)


def test_a_run_that_goes_on_keeps_what_it_began_with(data: Path) -> None:
    count(data, "first")
    shutil.copy(data / "masks" / "0.png", data / "masks" / "2.png")

    assert count(data, "first") == (COUNTS, 0)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"class_pixels": [1, 2, 3]}', "with two counts", "with a word"])
def test_a_damaged_cache_is_not_believed(data: Path, content: str) -> None:
    count(data, "first")
    (file,) = (cache_folder() / "class-pixels").iterdir()
    kept = json.loads(file.read_text())
    wrong = {"with two counts": [1, 2], "with a word": [9, 2, "4"]}.get(content)
    file.write_text(json.dumps({**kept, "class_pixels": wrong}) if wrong else content)

    assert count(data, "second") == (COUNTS, 3)
    assert json.loads(file.read_text()) == kept


def test_a_cache_that_cannot_be_written_costs_time_only(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data.parent / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(data.parent / "file"))

    assert count(data, "first") == count(data, "second") == (COUNTS, 3)


def test_masks_that_change_while_they_are_counted_are_not_kept(data: Path) -> None:
    """Whoever counted half of the old and half of the new ones must not tell others."""
    config = Config(model=Plugin(name="enet"), dataset=Plugin(name="folder"), data_root=str(data.parent))
    dataset = registry.open_dataset(config.dataset, config.data_root, "train")
    read = dataset.mask

    def and_change(index: int) -> np.ndarray:
        if index == 0:
            shutil.copy(data / "masks" / "1.png", data / "new.png")
            os.replace(data / "new.png", data / "masks" / "2.png")
        return read(index)

    dataset.mask = and_change
    count_class_pixels(dataset, dataset_info(dataset), ALONE, config, data.parent / "first.json")

    assert count(data, "second") == ([4, 2, 7], 3)


class Unknown:
    """A data set of someone else, that says nothing about changes and has no quick way to its masks."""

    classes = ("a", "b", "c")
    reads = 0

    def __len__(self) -> int:
        return len(MASKS)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        self.reads += 1
        return np.zeros((2, 3, 3), np.uint8), np.array(MASKS[index], np.uint8)

    def name(self, index: int) -> str:
        return str(index)


def test_a_data_set_without_a_fingerprint_is_counted_once_in_each_run(tmp_path: Path) -> None:
    config = Config(model=Plugin(name="enet"), dataset=Plugin(name="shapes"))
    dataset = Unknown()

    for run, reads in (("first", 3), ("first", 3), ("second", 6)):
        file = tmp_path / f"{run}.json"
        assert count_class_pixels(dataset, dataset_info(dataset), ALONE, config, file) == COUNTS
        assert dataset.reads == reads
    assert not cache_folder().exists()


def _count_in_a_process(rank: int, size: int, data: Path, cache: str) -> dict[str, Any]:
    os.environ["XDG_CACHE_HOME"] = f"{cache}-{rank}"  # as on nodes whose home folders differ: rank 0's counts
    world = World(rank, size, rank, size, torch.device("cpu"))
    return {"first": count(data, "first", world), "second": count(data, "second", world)}


@pytest.mark.slow
def test_processes_share_the_masks_and_agree_on_the_cache(data: Path, tmp_path: Path) -> None:
    found = in_processes(_count_in_a_process, 2, tmp_path / "processes", data, str(tmp_path / "cache"))

    assert [each["first"] for each in found] == [(COUNTS, 2), (COUNTS, 1)]
    assert [each["second"] for each in found] == [(COUNTS, 0), (COUNTS, 0)]
    assert not (tmp_path / "cache-1").exists()
