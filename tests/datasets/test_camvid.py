"""CamVid, on the real photographs and on little trees of its layout."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segctl.errors import DataError
from segctl.plugin import dataset_info
from segctl_datasets.camvid import CamVid


def test_facts_are_declared_as_published() -> None:
    info = dataset_info(CamVid)
    assert len(info.classes) == len(set(info.palette)) == 11
    assert (info.classes[0], info.classes[8], info.classes[10]) == ("Sky", "Car", "Bicyclist")
    assert info.splits == {"train": 367, "val": 101, "test": 233}
    assert info.ignore_index == 11  # void is stored as 11


@pytest.mark.parametrize(("split", "samples"), [("train", 367), ("val", 101)])
def test_real_splits_are_complete_and_in_list_order(test_data: Path, split: str, samples: int) -> None:
    dataset = CamVid(test_data / "camvid", split)
    assert len(dataset) == samples
    assert dataset.notices == ()
    listed = [
        line.split()[0].split("/")[-1] for line in (test_data / "camvid" / f"{split}.txt").read_text().splitlines()
    ]
    assert [dataset.name(index) + ".png" for index in range(samples)] == listed


def test_real_samples_are_the_files_pixel_by_pixel(test_data: Path) -> None:
    dataset = CamVid(test_data / "camvid", "val")
    for index in (0, 57, 100):
        image, mask = dataset[index]
        folder, file = test_data / "camvid", f"{dataset.name(index)}.png"
        assert (image.shape, image.dtype, mask.shape, mask.dtype) == ((360, 480, 3), np.uint8, (360, 480), np.uint8)
        assert image.tobytes() == Image.open(folder / "val" / file).tobytes()
        assert mask.tobytes() == Image.open(folder / "valannot" / file).tobytes()


def test_real_labels_mean_what_the_class_names_say(test_data: Path) -> None:
    """Looking at the pictures: in a street scene the sky is bright and high up, the road is grey and at the bottom."""
    dataset = CamVid(test_data / "camvid", "train")
    rows, brightness, counts = np.zeros(11), np.zeros(11), np.zeros(11)
    for index in range(0, len(dataset), 40):
        image, mask = dataset[index]
        for value in range(11):
            where = mask == value
            counts[value] += where.sum()
            rows[value] += np.nonzero(where)[0].sum()
            brightness[value] += image[where].mean(axis=1).sum()
    rows, brightness = rows / counts, brightness / counts
    order = [dataset.classes[value] for value in np.argsort(rows)]
    assert order[0] == "Sky"
    assert order[-1] == "Road"
    assert dataset.classes[int(brightness.argmax())] == "Sky"
    assert dataset.classes[int(counts.argmax())] in {"Road", "Building"}


def test_a_data_set_survives_pickling(test_data: Path) -> None:
    dataset = CamVid(test_data / "camvid", "val")
    again = pickle.loads(pickle.dumps(dataset))
    assert all(np.array_equal(a, b) for a, b in zip(dataset[3], again[3], strict=True))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for folder in ("train", "trainannot"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (4, 3)).save(tmp_path / "train" / f"{name}.png")
        Image.new("L", (4, 3), 11).save(tmp_path / "trainannot" / f"{name}.png")
    (tmp_path / "train.txt").write_text(
        "/SegNet/CamVid/train/a.png /SegNet/CamVid/trainannot/a.png\n\ntrain/b.png trainannot/b.png\n"
    )
    return tmp_path


def test_any_path_prefix_is_stripped(tree: Path) -> None:
    dataset = CamVid(tree, "train")
    assert [dataset.name(index) for index in range(len(dataset))] == ["a", "b"]
    assert (dataset[1][1] == 11).all()
    assert dataset.notices == ("train has 2 samples here, 367 are published.",)


def test_a_value_that_is_no_class_is_refused(tree: Path) -> None:
    Image.new("L", (4, 3), 12).save(tree / "trainannot" / "b.png")
    dataset = CamVid(tree, "train")
    dataset[0]
    with pytest.raises(DataError, match=r"trainannot/b\.png holds the value 12 on 12 of its 12 pixels"):
        dataset[1]


def test_a_mask_of_another_size_is_refused(tree: Path) -> None:
    Image.new("L", (5, 3), 1).save(tree / "trainannot" / "a.png")
    with pytest.raises(DataError, match=r"trainannot/a\.png is 5 x 3 pixels, but its image .*train/a\.png is 4 x 3"):
        CamVid(tree, "train")[0]


def test_missing_files_are_found_on_opening(tree: Path) -> None:
    (tree / "trainannot" / "b.png").unlink()
    with pytest.raises(DataError, match=r"trainannot/b\.png, listed in .*train\.txt, does not exist\."):
        CamVid(tree, "train")
    shutil.rmtree(tree / "train")
    with pytest.raises(DataError, match=r"train/a\.png, listed in .*, does not exist, nor do 2 more files"):
        CamVid(tree, "train")


@pytest.mark.parametrize(
    ("split", "content", "message"),
    [
        ("train", "only-one-field\n", r"train\.txt:1 should hold an image and a mask"),
        ("train", "\n \n", r"train\.txt is empty"),
        ("train", b"\xff\xfe\x00", r"train\.txt cannot be read"),
        ("val", None, r"val\.txt does not exist"),
        ("valid", None, r"camvid has no split 'valid'; it has train, val and test\. Did you mean 'val'\?"),
    ],
)
def test_wrong_lists_and_splits(tree: Path, split: str, content: str | bytes | None, message: str) -> None:
    if content is not None:
        (tree / f"{split}.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as raised:
        CamVid(tree, split)
    assert raised.match(message)
