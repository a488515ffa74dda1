"""Cityscapes, on official frames and on a little tree of its layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segctl.errors import DataError
from segctl.plugin import dataset_info
from segctl_datasets.cityscapes import Cityscapes


def test_facts_are_declared_as_published() -> None:
    info = dataset_info(Cityscapes)
    assert (info.splits, len(info.classes), info.ignore_index) == ({"train": 2975, "val": 500}, 19, 255)
    assert info.unlabelled_splits == {"test": 1525}
    assert dict(zip(info.labels, info.classes, strict=True))[26] == "car"
    assert info.palette[info.classes.index("sky")] == (70, 130, 180)  # wrong in the reference project


def test_label_ids_become_the_train_ids_of_the_authors(test_data: Path) -> None:
    """The sample comes with the authors' own conversion; it was made small after that, so some borders differ."""
    root = test_data / "samples" / "cityscapes_tiny_256x128"
    image, mask = Cityscapes(root, "val")[0]
    official = root / "gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelTrainIds.png"
    assert (image.shape, mask.dtype) == ((128, 256, 3), np.uint8)
    assert (mask == np.asarray(Image.open(official))).mean() > 0.995
    assert set(np.unique(mask)) == set(np.unique(Image.open(official)))


def test_full_frames_are_read(test_data: Path) -> None:
    dataset = Cityscapes(test_data / "samples" / "cityscapes", "train")
    assert [dataset.name(index) for index in range(len(dataset))] == ["aachen_000000_000019", "aachen_000004_000019"]
    image, mask = dataset[0]
    assert (image.shape, mask.shape) == ((1024, 2048, 3), (1024, 2048))
    ids = np.asarray(Image.open(test_data / "samples/cityscapes/gtFine/train/aachen" / f"{dataset.name(0)}{IDS}"))
    for label, name in ((7, "road"), (26, "car"), (11, "building"), (33, "bicycle")):
        assert np.array_equal(ids == label, mask == dataset.classes.index(name))
    assert (mask[ids == 3] == 255).all()


IDS = "_gtFine_labelIds.png"


def frame(root: Path, city: str, name: str, value: int = 7, *, with_mask: bool = True) -> None:
    for part, suffix in (("leftImg8bit", "_leftImg8bit.png"), ("gtFine", IDS)):
        folder = root / part / "train" / city
        folder.mkdir(parents=True, exist_ok=True)
        if part == "leftImg8bit" or with_mask:
            mode, color = ("RGB", (0, 0, 0)) if part == "leftImg8bit" else ("L", value)
            Image.new(mode, (4, 3), color).save(folder / f"{name}{suffix}")


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no split 'demo'; it has train, val and test"):
        Cityscapes(tmp_path, "demo")
    with pytest.raises(DataError, match=r"no image .*leftImg8bit/train"):
        Cityscapes(tmp_path, "train")
    frame(tmp_path, "bonn", "b_1")
    frame(tmp_path, "aachen", "a_1", 34)
    with pytest.raises(DataError, match=r"a_1_gtFine_labelIds.png holds the value 34 on 12 of its 12 pixels"):
        Cityscapes(tmp_path, "train")[0]
    frame(tmp_path, "bonn", "b_2", with_mask=False)
    with pytest.raises(DataError, match=r"b_2_gtFine_labelIds.png, the mask of an image in .*train, does not exist"):
        Cityscapes(tmp_path, "train")
