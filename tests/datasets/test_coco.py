"""COCO: masks that are made of annotations, checked on real ones by another way of drawing, and COCO-Stuff."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pytest
from PIL import Image, ImageDraw

from segctl import registry
from segctl.config.schema import Plugin
from segctl.errors import DataError
from segctl.plugin import dataset_info
from segctl_datasets.coco import COCO, COCOStuff
from segctl_datasets.coco.masks import CATEGORIES
from segctl_datasets.pascal_voc import PascalVOC

# Corners lie between pixels: x 10 to 30, y 0 to 40 covers the columns 10 to 29.
PERSON = {"category_id": 1, "segmentation": [[10, 0, 30, 0, 30, 40, 10, 40]]}
HORSE = {"category_id": 19, "segmentation": [[20, 0, 50, 0, 50, 40, 20, 40]]}
BOOK = {"category_id": 84, "segmentation": [[0, 0, 60, 0, 60, 40, 0, 40]]}
CROWD = {"category_id": 1, "iscrowd": 1, "segmentation": {"size": [40, 60], "counts": [0, 600, 1800]}}  # columns 0-14


def quiet(done: int, total: int) -> None: ...


@pytest.fixture
def real(test_data: Path, tmp_path: Path) -> Path:
    """Six photographs of val2017 with their annotations, and a train split of the same."""
    samples = test_data / "samples" / "coco"
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        (tmp_path / f"{split}2017").symlink_to(samples / "val2017")
        (tmp_path / "annotations" / f"instances_{split}2017.json").symlink_to(
            samples / "annotations" / "instances_val2017.json"
        )
    return tmp_path


def test_categories_are_those_of_voc(test_data: Path) -> None:
    names = json.loads((test_data / "samples/coco/annotations/instances_val2017.json").read_text())["categories"]
    of_coco = {each["id"]: each["name"] for each in names}
    same = {"airplane": "aeroplane", "motorcycle": "motorbike", "potted plant": "pottedplant", "couch": "sofa"}
    same |= {"dining table": "diningtable", "tv": "tvmonitor"}
    named = [same.get(of_coco[category], of_coco[category]) for category in CATEGORIES[1:]]
    assert ("background", *named) == PascalVOC.classes == COCO.classes


def test_real_annotations(real: Path) -> None:
    """Drawn with Pillow as well, which treats the pixels that an outline runs through in its own way."""
    COCO.prepare(real, quiet)
    dataset = COCO(real, "val")
    # Of the other two one shows bears, and one has no annotation at all.
    names = ["000000128372", "000000404249", "000000343934", "000000464689"]
    assert [dataset.name(k) for k in range(len(dataset))] == names
    annotations = json.loads((real / "annotations" / "instances_val2017.json").read_text())
    for index in range(len(dataset)):
        image, mask = dataset[index]
        drawn = drawn_with_pillow(annotations, int(dataset.name(index)), mask.shape)
        assert image.shape[:2] == mask.shape
        assert (mask == drawn)[mask != 255].mean() > 0.99
        assert set(np.unique(mask)) - {255} == set(np.unique(drawn))
    bus, person = (COCO.classes.index(name) for name in ("bus", "person"))
    assert set(np.unique(dataset[0][1])) == {0, bus, person}  # a car of 136 pixels lies on the bus, which comes first
    assert abs(int((dataset[0][1] == bus).sum()) - 93718) < 300  # the area that the annotation states
    assert set(np.unique(dataset[1][1])) == {0, person}  # the skateboard is none of VOC's kinds
    assert set(np.unique(dataset[2][1])) == {0, COCO.classes.index("motorbike")}
    (bottles,) = [each for each in annotations["annotations"] if each["iscrowd"]]
    crowd = decoded(bottles["segmentation"])
    mask = dataset[3][1]
    assert np.array_equal(mask == 255, crowd & (mask != COCO.classes.index("bottle")))
    assert (mask == 255).any()


def decoded(segmentation: dict[str, list[int]]) -> np.ndarray:
    """COCO's run lengths: column by column, beginning with what is outside."""
    height, width = segmentation["size"]
    values = np.repeat(np.arange(len(segmentation["counts"])) % 2 == 1, segmentation["counts"])
    return values.reshape(width, height).T


def drawn_with_pillow(annotations: dict[str, Any], photograph: int, shape: tuple[int, ...]) -> np.ndarray:
    picture = Image.new("L", shape[::-1])
    for instance in reversed(annotations["annotations"]):
        if instance["image_id"] == photograph and instance["category_id"] in CATEGORIES and not instance["iscrowd"]:
            for polygon in instance["segmentation"]:
                ImageDraw.Draw(picture).polygon(polygon, fill=CATEGORIES.index(instance["category_id"]))
    return np.asarray(picture)


def test_the_first_of_two_stays_and_crowds_are_ignored(tmp_path: Path) -> None:
    layouts.coco(
        tmp_path,
        {
            "train/000000000001": [BOOK, PERSON, HORSE],
            "train/000000000002": [HORSE, PERSON],
            "train/000000000003": [CROWD, PERSON, HORSE],
            "train/000000000004": [PERSON],  # 800 pixels
            "train/000000000005": [CROWD],
            "val/000000000006": [HORSE],
        },
    )
    said: list[tuple[int, int]] = []
    COCO.prepare(tmp_path, lambda done, total: said.append((done, total)))
    assert said == [(done, 6) for done in range(1, 7)]
    dataset = COCO(tmp_path, "train")
    assert [dataset.name(k)[-1] for k in range(len(dataset))] == ["1", "2", "3"]
    rows = [columns(dataset[k][1]) for k in range(3)]
    person, horse = 15, 13
    assert rows[0] == [(0, 10), (person, 20), (horse, 20), (0, 10)]
    assert rows[1] == [(0, 10), (person, 10), (horse, 30), (0, 10)]
    assert rows[2] == [(255, 10), (person, 20), (horse, 20), (0, 10)]
    assert len(COCO(tmp_path, "val")) == 1


def columns(mask: np.ndarray) -> list[tuple[int, int]]:
    """A mask of upright stripes as (value, width) pairs."""
    assert (mask == mask[0]).all()
    edges = [0, *(np.flatnonzero(np.diff(mask[0].astype(int))) + 1), mask.shape[1]]
    return [(int(mask[0][a]), int(b - a)) for a, b in itertools.pairwise(edges)]


def test_without_masks_the_way_to_them_is_told(tmp_path: Path) -> None:
    layouts.coco(tmp_path / "coco", {"train/000000000001": [PERSON, HORSE]})
    (tmp_path / "coco" / "val2017").mkdir()
    with pytest.raises(DataError, match=r"have not been made .* no .*voc21_masks/train2017\.txt") as caught:
        registry.open_dataset(Plugin(name="coco"), tmp_path, "train")
    assert "segctl data prepare coco" in (caught.value.hint or "")


def test_it_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    layouts.coco(tmp_path, {f"train/{number:012d}": [PERSON, HORSE] for number in range(40)})
    killed = (
        "import os, pathlib, signal\n"
        "from segctl_datasets.coco import COCO\n"
        f"COCO.prepare(pathlib.Path({str(tmp_path)!r}), "
        "lambda done, total: os.kill(os.getpid(), signal.SIGKILL) if done == 17 else None)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", killed], env=environment).returncode == -signal.SIGKILL
    masks = tmp_path / "voc21_masks" / "train2017"
    made = {path.name: path.stat().st_mtime_ns for path in masks.iterdir()}
    assert len(made) == 17
    with pytest.raises(DataError, match="have not been made"):
        COCO(tmp_path, "train")
    COCO.prepare(tmp_path, quiet)
    assert len(COCO(tmp_path, "train")) == len(list(masks.iterdir())) == 40
    assert {name: (masks / name).stat().st_mtime_ns for name in made} == made
    said: list[int] = []
    COCO.prepare(tmp_path, lambda done, total: said.append(done))
    assert said == []


def test_damaged_annotations_are_named(tmp_path: Path) -> None:
    layouts.coco(tmp_path, {"train/000000000001": [{"category_id": 1, "id": 7, "segmentation": [[1, 2]]}]})
    with pytest.raises(DataError, match=r"Annotation 7 of photograph 000000000001 cannot be drawn"):
        COCO.prepare(tmp_path, quiet)
    path = tmp_path / "annotations" / "instances_train2017.json"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"instances_train2017\.json cannot be read as COCO's instances"):
        COCO.prepare(tmp_path, quiet)
    path.unlink()
    with pytest.raises(DataError, match=r"instances_train2017\.json does not exist"):
        COCO.prepare(tmp_path, quiet)


def test_stuff_has_171_classes_of_182_labels() -> None:
    info = dataset_info(COCOStuff)
    assert (len(info.classes), len(set(info.classes)), info.splits) == (171, 171, {"train": 118287, "val": 5000})
    named = dict(zip(info.labels, info.classes, strict=True))
    never = set(range(182)) - set(info.labels)
    # Street sign, hat, shoe, eye glasses, plate, mirror, window, desk, door, blender and hair brush, minus one.
    assert never == {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}
    some = {0: "person", 12: "stop sign", 66: "dining table", 69: "toilet", 89: "toothbrush", 91: "banner"}
    assert {value: named[value] for value in some} == some
    assert (named[123], named[148], named[181], info.classes[80]) == ("grass", "road", "wood", "banner")


def test_stuff_on_a_tree_of_its_layout(tmp_path: Path) -> None:
    layouts.coco_stuff(tmp_path / "coco")
    dataset = registry.open_dataset(Plugin(name="coco_stuff"), tmp_path, "val")
    assert dataset[0][1].tolist() == [[0, 11], [255, 170]]  # person, stop sign, unlabelled, wood
    layouts.coco_stuff(tmp_path / "coco", rows=((0, 11), (0, 0)))
    with pytest.raises(DataError, match=r"000000000001\.png holds the value 11 on 1 of its 4 pixels"):
        dataset[0]
