"""Small trees in the layout of each published data set, with contents that a test can state by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

Rows = Sequence[Sequence[int]]
BORDERED = ((0, 15), (255, 15))  # a mask of VOC: background, a person, a border


def photo(path: Path, size: tuple[int, int] = (2, 2), color: tuple[int, int, int] = (90, 120, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


def mask(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(rows, np.uint8)).save(path)


def lines(path: Path, *names: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


def voc(root: Path, train: Sequence[str], val: Sequence[str], test: Sequence[str] = ()) -> None:
    folder = root / "VOCdevkit" / "VOC2012"
    for name in (*train, *val):
        photo(folder / "JPEGImages" / f"{name}.jpg")
        mask(folder / "SegmentationClass" / f"{name}.png", BORDERED)
    for name in test:
        photo(folder / "JPEGImages" / f"{name}.jpg")
    for split, names in (("train", train), ("val", val), ("trainval", (*train, *val)), ("test", test)):
        if names:
            lines(folder / "ImageSets" / "Segmentation" / f"{split}.txt", *names)


def sbd(root: Path, train: Sequence[str], val: Sequence[str], rows: Rows = ((0, 20), (12, 0))) -> None:
    folder = root / "benchmark_RELEASE" / "dataset"
    for name in (*train, *val):
        photo(folder / "img" / f"{name}.jpg")
        (folder / "cls").mkdir(exist_ok=True)
        segmentation = {"Boundaries": np.zeros((20, 1)), "Segmentation": np.array(rows, np.uint8)}
        savemat(folder / "cls" / f"{name}.mat", {"GTcls": segmentation})
    lines(folder / "train.txt", *train)
    lines(folder / "val.txt", *val)


def sbu_shadow(root: Path, rows: Rows = ((0, 127), (128, 255))) -> None:
    for folder, name in (("SBUTrain4KRecoveredSmall", "lssd1"), ("SBU-Test", "lssd2")):
        photo(root / folder / "ShadowImages" / f"{name}.jpg")
        mask(root / folder / "ShadowMasks" / f"{name}.png", rows)


def lip(root: Path, rows: Rows = ((0, 14), (15, 19))) -> None:
    for split in ("train", "val"):
        photo(root / "TrainVal_images" / f"{split}_images" / f"{split}_1.jpg")
        mask(root / "TrainVal_parsing_annotations" / f"{split}_segmentations" / f"{split}_1.png", rows)


def kitti(root: Path, rows: Rows = ((7, 26), (0, 33))) -> None:
    for name in ("000000_10", "000159_10", "000160_10"):
        photo(root / "training" / "image_2" / f"{name}.png")
        mask(root / "training" / "semantic" / f"{name}.png", rows)
    photo(root / "testing" / "image_2" / "000000_10.png")


def oxford_pet(root: Path, rows: Rows = ((1, 2), (3, 1))) -> None:
    for name in ("Abyssinian_100", "beagle_7", "Birman_3"):
        photo(root / "images" / f"{name}.jpg")
        mask(root / "annotations" / "trimaps" / f"{name}.png", rows)
    mask(root / "annotations" / "trimaps" / "._beagle_7.png", rows)  # the archive holds such left-overs
    lines(root / "annotations" / "list.txt", "#Image CLASS-ID SPECIES BREED ID", "Abyssinian_100 1 1 1")
    lines(root / "annotations" / "trainval.txt", "beagle_7 5 2 2", "Abyssinian_100 1 1 1")
    lines(root / "annotations" / "test.txt", "Birman_3 8 1 4")


def coco(root: Path, instances: dict[str, Sequence[dict[str, object]]], size: tuple[int, int] = (60, 40)) -> None:
    """One photograph per name, such as ``train/000000000001``, with COCO's annotations."""
    for split in ("train", "val"):
        images, annotations = [], []
        for number, (path, found) in enumerate(instances.items(), 1):
            owner, name = path.split("/")
            if owner == split:
                photo(root / f"{split}2017" / f"{name}.jpg", size)
                images.append({"id": number, "file_name": f"{name}.jpg", "width": size[0], "height": size[1]})
                annotations += [{"iscrowd": 0, "id": 100 * number, **each, "image_id": number} for each in found]
        (root / "annotations").mkdir(parents=True, exist_ok=True)
        text = json.dumps({"images": images, "annotations": annotations, "categories": []})
        (root / "annotations" / f"instances_{split}2017.json").write_text(text)


def coco_stuff(root: Path, rows: Rows = ((0, 12), (255, 181))) -> None:
    for split in ("train", "val"):
        photo(root / f"{split}2017" / "000000000001.jpg")
        mask(root / "stuffthingmaps" / f"{split}2017" / "000000000001.png", rows)


def cityscapes(root: Path, frames: dict[str, Sequence[str]], rows: Rows = ((7, 26), (0, 33))) -> None:
    """Frames by split, such as ``{"test": ["berlin_000000_000019"]}``; those of test have the archive's dummy masks."""
    for split, names in frames.items():
        for name in names:
            city = name.split("_")[0]
            photo(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", size=(len(rows[0]), len(rows)))
            labels = np.zeros_like(rows) if split == "test" else rows
            mask(root / "gtFine" / split / city / f"{name}_gtFine_labelIds.png", labels)


def ade20k(root: Path, rows: Rows = ((0, 1), (2, 150))) -> None:
    for split, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        photo(root / "ADEChallengeData2016" / "images" / split / f"{name}.jpg")
        mask(root / "ADEChallengeData2016" / "annotations" / split / f"{name}.png", rows)
    photo(root / "release_test" / "testing" / "ADE_test_00000001.jpg")


def mapillary(root: Path, rows: Rows = ((0, 13), (65, 64))) -> None:
    for split in ("training", "validation", "testing"):
        photo(root / split / "images" / "a_b-c.jpg")
        if split != "testing":
            mask(root / split / "v1.2" / "labels" / "a_b-c.png", rows)


def camvid(root: Path, rows: Rows = ((0, 3), (11, 10))) -> None:
    for split in ("train", "val", "test"):
        photo(root / split / f"{split}_1.png")
        mask(root / f"{split}annot" / f"{split}_1.png", rows)
        lines(root / f"{split}.txt", f"/SegNet/CamVid/{split}/{split}_1.png /SegNet/CamVid/{split}annot/{split}_1.png")
