"""PASCAL VOC, on one official photograph and on little trees of its layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segctl import registry
from segctl.config.schema import Plugin
from segctl.errors import DataError
from segctl.plugin import dataset_info
from segctl_datasets.pascal_voc import PascalVOC


def test_facts_are_declared_as_published() -> None:
    info = dataset_info(PascalVOC)
    assert len(info.classes) == 21
    assert (info.classes[0], info.classes[15], info.classes[20]) == ("background", "person", "tvmonitor")
    assert list(info.classes[1:]) == sorted(info.classes[1:])  # the devkit orders them by the alphabet
    assert info.splits == {"train": 1464, "val": 1449, "trainval": 2913}
    assert info.palette[15] == (192, 128, 128)  # person, in the devkit's colour map
    assert info.ignore_index == 255


def test_the_official_photograph(test_data: Path) -> None:
    """2007_000063 shows a dog on a chair. The palette's colours, looked up by hand, must say so too."""
    dataset = PascalVOC(test_data / "samples", "train")
    assert (len(dataset), dataset.name(0)) == (1, "2007_000063")
    assert dataset.notices == ("train has 1 sample here, 1464 are published.",)
    image, mask = dataset[0]
    assert (image.shape, mask.shape, mask.dtype) == ((375, 500, 3), (375, 500), np.uint8)
    colors = Image.open(test_data / "samples/VOCdevkit/VOC2012/SegmentationClass/2007_000063.png").convert("RGB")
    by_color = {(0, 0, 0): "background", (192, 0, 0): "chair", (64, 0, 128): "dog"}
    seen = np.asarray(colors)
    for color, name in by_color.items():
        assert np.array_equal((seen == color).all(axis=2), mask == dataset.classes.index(name))
    assert np.array_equal((seen == (224, 224, 192)).all(axis=2), mask == 255)  # the devkit's colour of borders


def test_it_is_found_in_both_places(test_data: Path, tmp_path: Path) -> None:
    in_own_folder = tmp_path / "pascal_voc"
    in_own_folder.mkdir()
    (in_own_folder / "VOCdevkit").symlink_to(test_data / "samples" / "VOCdevkit")
    for data_root in (test_data / "samples", tmp_path):
        assert len(registry.open_dataset(Plugin(name="pascal_voc"), data_root, "train")) == 1


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / part).mkdir(parents=True)
    for number, name in enumerate(("2008_a", "2007_b", "2009_c")):
        Image.new("RGB", (5, 4), (number, 0, 0)).save(folder / "JPEGImages" / f"{name}.jpg")
        mask = Image.new("P", (5, 4), number)
        mask.putpalette([99] * 768)
        mask.putpixel((0, 0), 255)
        mask.save(folder / "SegmentationClass" / f"{name}.png")
    lists = folder / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("2008_a\n2007_b\n")
    (lists / "val.txt").write_text("2009_c\r\n")
    (lists / "trainval.txt").write_text("2007_b\n2008_a\n2009_c\n")
    return tmp_path


def test_splits_follow_the_lists(tree: Path) -> None:
    names = {
        split: [dataset.name(index) for index in range(len(dataset))]
        for split in ("train", "val", "trainval")
        for dataset in [PascalVOC(tree, split)]
    }
    assert names == {"train": ["2008_a", "2007_b"], "val": ["2009_c"], "trainval": ["2007_b", "2008_a", "2009_c"]}
    mask = PascalVOC(tree, "val")[0][1]
    assert mask[0, 0] == 255
    assert (mask.ravel()[1:] == 2).all()


def test_rgb_masks_are_refused(tree: Path) -> None:
    """A frequent mistake: the palette PNGs of VOC saved again as colour pictures."""
    Image.new("RGB", (5, 4), (128, 0, 0)).save(tree / "VOCdevkit/VOC2012/SegmentationClass/2009_c.png")
    with pytest.raises(DataError, match=r"2009_c\.png is an RGB image, but a mask must hold one value"):
        PascalVOC(tree, "val")[0]


def test_a_truncated_mask_is_named(tree: Path) -> None:
    path = tree / "VOCdevkit/VOC2012/SegmentationClass/2009_c.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"2009_c\.png cannot be decoded"):
        PascalVOC(tree, "val")[0]


def test_the_test_split_has_no_labels(tree: Path) -> None:
    with pytest.raises(
        DataError, match=r"photographs of VOC's test split are not here: there is no .*test\.txt"
    ) as caught:
        PascalVOC(tree, "test")
    assert "VOC2012test.tar" in (caught.value.hint or "")
    folder = tree / "VOCdevkit/VOC2012"
    (folder / "ImageSets/Segmentation/test.txt").write_text("2009_c\n")
    (folder / "SegmentationClass/2009_c.png").unlink()
    dataset = PascalVOC(tree, "test")
    assert (dataset.name(0), dataset[0][1].tolist()) == ("2009_c", [[255] * 5] * 4)
    assert dataset.files(0) == ("VOCdevkit/VOC2012/JPEGImages/2009_c.jpg",)
    with pytest.raises(DataError, match="no split 'tset'; it has train, val, trainval and test"):
        PascalVOC(tree, "tset")


def test_a_photograph_that_is_not_there(tree: Path) -> None:
    (tree / "VOCdevkit/VOC2012/JPEGImages/2007_b.jpg").unlink()
    with pytest.raises(DataError, match=r"2007_b\.jpg, listed in .*trainval\.txt, does not exist"):
        PascalVOC(tree, "trainval")
