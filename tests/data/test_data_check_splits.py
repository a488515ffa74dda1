"""`segctl data check` of splits that share samples, have no public labels or cannot be opened."""

from __future__ import annotations

import shutil
from pathlib import Path

import camvid_tree
import numpy as np
from check_reports import found, told
from PIL import Image
from scipy.io import savemat

import segctl


def make_unions(root: Path) -> Path:
    for index in range(6):
        (root / "files").mkdir(parents=True, exist_ok=True)
        Image.fromarray(camvid_tree.picture(index)).save(root / "files" / f"{index}.png")
        mask = (camvid_tree.labels(index) > 5).astype(np.uint8)
        Image.fromarray(mask).save(root / "files" / f"{index}_mask.png")
    return root


def test_a_split_that_is_made_of_others_leaks_nothing(toys: None, tmp_path: Path) -> None:
    make_unions(tmp_path / "unions")

    assert segctl.check_data("unions", data_root=tmp_path).findings == ()
    asked = segctl.check_data("unions", data_root=tmp_path, splits=["trainval", "val"])
    assert told(asked, "leak") == [
        ("trainval", "files/4.png", "is in val, too"),
        ("trainval", "files/5.png", "is in val, too"),
    ]


def test_a_split_whose_labels_are_not_public_is_looked_at_too(toys: None, tmp_path: Path) -> None:
    files = make_unions(tmp_path / "served") / "files"
    for index in (4, 5):
        (files / f"{index}_mask.png").unlink()

    report = segctl.check_data("served", data_root=tmp_path)

    assert report.findings == ()
    assert [(split.name, split.images, split.masks) for split in report.splits] == [
        ("train", 2, 2),
        ("val", 2, 2),
        ("test", 2, 0),
    ]
    shutil.copy(files / "4.png", files / "0.png")
    (files / "5.png").write_bytes(b"")
    assert found(segctl.check_data("served", data_root=tmp_path)) == {
        ("leak", "files/0.png"),
        ("unreadable-image", "files/5.png"),
    }


def test_the_lists_that_sbd_comes_with_leak_and_the_default_does_not(tmp_path: Path) -> None:
    """SBD's train list holds a photograph of VOC's val, as the reference project's did."""
    voc, sbd = tmp_path / "pascal_voc/VOCdevkit/VOC2012", tmp_path / "pascal_voc/benchmark_RELEASE/dataset"
    for folder in (
        voc / "JPEGImages",
        voc / "SegmentationClass",
        voc / "ImageSets/Segmentation",
        sbd / "img",
        sbd / "cls",
    ):
        folder.mkdir(parents=True)
    mask = np.arange(camvid_tree.HEIGHT * camvid_tree.WIDTH).reshape(camvid_tree.HEIGHT, -1) % 21
    for seed, name in enumerate(("a", "b", "c", "d")):
        picture = Image.fromarray(camvid_tree.picture(seed))
        for path in (voc / "JPEGImages", sbd / "img"):
            picture.save(path / f"{name}.jpg")
        Image.fromarray(mask.astype(np.uint8)).save(voc / "SegmentationClass" / f"{name}.png")
        savemat(sbd / "cls" / f"{name}.mat", {"GTcls": {"Segmentation": mask.astype(np.uint8)}})
    for path, names in (
        (voc / "ImageSets/Segmentation/train.txt", "a"),
        (voc / "ImageSets/Segmentation/val.txt", "b"),
        (sbd / "train.txt", "bc"),
        (sbd / "val.txt", "d"),
    ):
        path.write_text("\n".join(names) + "\n")

    leaking = segctl.check_data("pascal_aug", data_root=tmp_path, splits=["sbd_train", "val"])
    default = segctl.check_data("pascal_aug", data_root=tmp_path, splits=["trainaug", "val"])

    image = "benchmark_RELEASE/dataset/img/b.jpg"
    assert told(leaking, "leak") == [("sbd_train", image, "is in val, too, as VOCdevkit/VOC2012/JPEGImages/b.jpg")]
    # Of the thousands that are published there are one or two here, which is an error of its own.
    assert {finding.kind for finding in leaking.findings if finding.level == "error"} == {"leak", "incomplete"}
    assert {finding.kind for finding in default.findings if finding.level == "error"} == {"incomplete"}
    assert told(default, "leak") == told(default, "overlap") == []


def test_a_split_that_cannot_be_opened_does_not_keep_from_checking_the_others(faulty: Path) -> None:
    (faulty / "camvid/val.txt").unlink()

    report = segctl.check_data("camvid", data_root=faulty)

    assert [split.name for split in report.splits] == ["train", "test"]
    ((split, _, what),) = told(report, "refused")
    assert split == "val"
    assert "val.txt does not exist" in what
    assert ("missing-image", "train/train_000.png") in found(report)
