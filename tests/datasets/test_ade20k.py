"""ADE20K, on an official photograph and on a little tree of its layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segctl.errors import DataError
from segctl.plugin import dataset_info
from segctl_datasets.ade20k import ADE20K


def test_facts_are_declared_as_published(test_data: Path) -> None:
    info = dataset_info(ADE20K)
    assert (info.splits, info.ignore_index, info.labels[0], info.labels[149]) == (
        {"train": 20210, "val": 2000},
        255,
        1,
        150,
    )
    rows = (test_data / "samples/ade20k/ADEChallengeData2016/objectInfo150.txt").read_text().splitlines()[1:]
    synonyms = [[name.strip() for name in row.split("\t")[4].split(",")] for row in rows]
    assert [names[0] for names in synonyms] == list(info.classes)
    assert len(info.palette) == 150
    assert info.palette[2] == (6, 230, 230)  # the authors' colour of sky


def test_values_are_one_more_than_the_class(test_data: Path) -> None:
    dataset = ADE20K(test_data / "samples" / "ade20k", "val")
    assert (len(dataset), dataset.name(0)) == (1, "ADE_val_00000001")
    assert dataset.notices == ("val has 1 sample here, 2000 are published.",)
    image, mask = dataset[0]
    assert image.shape == (512, 683, 3)
    path = test_data / "samples/ade20k/ADEChallengeData2016/annotations/validation/ADE_val_00000001.png"
    stored = np.asarray(Image.open(path))
    assert set(np.unique(stored)) == {0, 1, 2, 3, 5, 7, 10, 18}
    for value, name in ((2, "building"), (3, "sky"), (10, "grass"), (18, "plant")):
        assert np.array_equal(stored == value, mask == dataset.classes.index(name))
    assert np.array_equal(stored == 0, mask == 255)


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "ADEChallengeData2016"
    for part in ("images", "annotations"):
        (folder / part / "training").mkdir(parents=True)
    with pytest.raises(DataError, match=r"no \*\.jpg in .*images/training"):
        ADE20K(tmp_path, "train")
    Image.new("RGB", (4, 3)).save(folder / "images/training/a.jpg")
    with pytest.raises(DataError, match=r"training/a\.png, the mask of an image in .*, does not exist"):
        ADE20K(tmp_path, "train")
    Image.new("L", (4, 3), 151).save(folder / "annotations/training/a.png")
    with pytest.raises(DataError, match="holds the value 151 on 12 of its 12 pixels"):
        ADE20K(tmp_path, "train")[0]
