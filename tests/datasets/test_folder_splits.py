"""A person's own images and masks: how they are divided into splits."""

from __future__ import annotations

from pathlib import Path

import pytest
from folder_files import ROWS, make, names, write_image

from segctl.errors import DataError
from segctl_datasets.folder import Folder


def test_a_hash_of_the_names_holds_images_out(tmp_path: Path) -> None:
    make(tmp_path, {f"{number:03d}": ROWS for number in range(200)})
    train, val = Folder(tmp_path, "train"), Folder(tmp_path, "val")
    assert sorted(names(train) + names(val)) == [f"{number:03d}" for number in range(200)]
    assert 25 <= len(val) <= 55  # 40 expected, standard deviation 5.7
    assert f"{len(val)} of 200 images are held out as val, by a hash of their names" in train.notices[0]
    assert len(Folder(tmp_path, "val", val_fraction=0.5)) > len(val)
    before = set(names(val))
    make(tmp_path, {f"new_{number}": ROWS for number in range(50)})
    assert {name for name in names(Folder(tmp_path, "val")) if "new" not in name} == before


def test_no_split_stays_empty(tmp_path: Path) -> None:
    make(tmp_path, {"only": ROWS})
    with pytest.raises(DataError, match="holds one image, which cannot be divided"):
        Folder(tmp_path, "train")
    make(tmp_path, {"other": ROWS})
    for fraction in (0.001, 0.999):
        assert len(Folder(tmp_path, "train", val_fraction=fraction)) == 1
        assert len(Folder(tmp_path, "val", val_fraction=fraction)) == 1


def test_lists_divide_and_choose(ten: Path) -> None:
    (ten / "train.txt").write_text("img_7\nimages/img_2.jpg\n\n./img_9.jpg\n")
    (ten / "val.txt").write_text("\ufeffimg_1\r\nimg_0\r\n", encoding="utf-8")
    (ten / "masks" / "img_5.png").unlink()  # not listed, so it does not matter
    assert names(Folder(ten, "train")) == ["img_7", "img_2", "img_9"]
    val = Folder(ten, "val")
    assert names(val) == ["img_1", "img_0"]
    assert dict(val.splits) == {"train": None, "val": None}
    assert not any("held out" in notice for notice in val.notices)
    with pytest.raises(DataError, match=r"has no split 'test'; it has train and val\. Write the list .*test\.txt"):
        Folder(ten, "test")


def test_samples_in_both_lists_are_said(ten: Path) -> None:
    (ten / "train.txt").write_text("img_1\nimg_2\nimg_3\n")
    (ten / "val.txt").write_text("img_2\nimg_3\nimg_4\n")
    assert "2 of the 3 samples in val.txt are in train.txt too" in Folder(ten, "train").notices[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "img_1\n\nimg_33\n",
            r"train\.txt:3 lists 'img_33', but .*images holds no such image\. Did you mean 'img_3'\?",
        ),
        ("img_1\nimg_2\nimg_1.jpg\n", r"train\.txt:3 lists 'img_1\.jpg' a second time, after line 1"),
        ("", r"train\.txt is empty"),
    ],
)
def test_wrong_lists(ten: Path, text: str, message: str) -> None:
    (ten / "train.txt").write_text(text)
    with pytest.raises(DataError) as raised:
        Folder(ten, "train")
    assert raised.match(message)


def test_sub_folders_divide(tmp_path: Path) -> None:
    make(tmp_path, {"train/a": ROWS, "train/deep/b": ROWS, "val/a": ROWS})
    write_image(tmp_path / "images" / "test" / "unlabelled.jpg")
    write_image(tmp_path / "images" / "beside.jpg")
    train = Folder(tmp_path, "train")
    assert names(train) == ["train/a", "train/deep/b"]
    assert names(Folder(tmp_path, "val")) == ["val/a"]
    assert train.notices[0] == "1 images outside images/train, images/val and images/test are not used."
    with pytest.raises(DataError, match=r"images/test/unlabelled\.jpg has no mask"):
        Folder(tmp_path, "test")


def test_a_split_without_its_sub_folder(tmp_path: Path) -> None:
    make(tmp_path, {"train/a": ROWS})
    with pytest.raises(DataError, match=r"has no split 'val'; it has train\. Put its images into .*images/val"):
        Folder(tmp_path, "val")
    (tmp_path / "images" / "val").mkdir()
    with pytest.raises(DataError, match=r"images/val holds no images"):
        Folder(tmp_path, "val")
