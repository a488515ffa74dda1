"""SBU, LIP, KITTI, Mapillary Vistas and Oxford-IIIT Pet: on real samples where there are some, and on small trees."""

from __future__ import annotations

from pathlib import Path

import layouts
import numpy as np
import pytest
from PIL import Image

from segctl import registry
from segctl.config.schema import Plugin
from segctl.errors import DataError
from segctl.plugin import dataset_info
from segctl_datasets.kitti import KITTI
from segctl_datasets.lip import LIP
from segctl_datasets.mapillary import Mapillary
from segctl_datasets.oxford_pet import OxfordPet
from segctl_datasets.sbu_shadow import SBUShadow


def test_counts_are_declared_as_published() -> None:
    splits = {kind.__name__: dataset_info(kind).splits for kind in (SBUShadow, LIP, KITTI, OxfordPet)}
    assert splits == {
        "SBUShadow": {"train": 4085, "test": 638},
        "LIP": {"train": 30462, "val": 10000},
        "KITTI": {"train": 160, "val": 40, "trainval": 200},
        "OxfordPet": {"trainval": 3680, "test": 3669},
    }
    assert dataset_info(KITTI).unlabelled_splits == {"test": 200}


def test_noise_of_shadow_masks_is_cut_at_128(tmp_path: Path) -> None:
    layouts.sbu_shadow(tmp_path)
    for split, name in (("train", "lssd1"), ("test", "lssd2")):
        dataset = SBUShadow(tmp_path, split)
        assert dataset.name(0) == name
        assert dataset[0][1].tolist() == [[0, 0], [1, 1]]


def test_a_real_shadow(test_data: Path) -> None:
    dataset = SBUShadow(test_data / "samples" / "SBU-shadow", "test")
    image, mask = dataset[0]
    assert (dataset.name(0), image.shape, mask.dtype) == ("lssd60", (397, 600, 3), np.uint8)
    assert (int((mask == 1).sum()), int((mask == 0).sum())) == (82804, 155396)  # counted in the file with Pillow alone
    assert image[mask == 1].mean() < image[mask == 0].mean()


def test_the_archive_of_sbu_is_one_folder_too_deep(tmp_path: Path) -> None:
    layouts.sbu_shadow(tmp_path / "sbu_shadow" / "SBU-shadow")
    said: list[tuple[int, int]] = []
    for _ in range(2):  # a second time it finds all done
        SBUShadow.prepare(tmp_path / "sbu_shadow", lambda done, total: said.append((done, total)))
        assert said == [(1, 2), (2, 2)]
    for name in ("sbu_shadow", "sbu"):
        assert len(registry.open_dataset(Plugin(name=name), tmp_path, "test")) == 1


def test_left_and_right_change_places_in_a_mirror() -> None:
    info = dataset_info(LIP)
    named = {(info.classes[one], info.classes[other]) for one, other in info.flip_pairs}
    assert named == {("left arm", "right arm"), ("left leg", "right leg"), ("left shoe", "right shoe")}
    assert len(info.classes) == 20
    assert {name for name in info.classes if name.startswith(("left", "right"))} == {n for pair in named for n in pair}


def test_a_real_person(test_data: Path, tmp_path: Path) -> None:
    """A woman facing the viewer photographs herself: her left arm is the one at the viewer's right."""
    samples = test_data / "samples" / "LIP"
    for ours, theirs in (("TrainVal_images", "train_images"), ("TrainVal_parsing_annotations", "train_segmentations")):
        (tmp_path / ours).mkdir()
        (tmp_path / ours / theirs).symlink_to(samples / theirs)
    dataset = LIP(tmp_path, "train")
    image, mask = dataset[0]
    assert (dataset.name(0), image.shape, mask.shape) == ("684_2150041", (220, 154, 3), (220, 154))
    counts = {dataset.classes[value]: int((mask == value).sum()) for value in np.unique(mask)}
    parts = {"hair": 1720, "upper clothes": 9910, "face": 675, "left arm": 1818, "right arm": 998}
    assert counts == {"background": 18759, **parts}  # counted in the file with Pillow alone
    left, right = (np.argwhere(mask == dataset.classes.index(arm)).mean(axis=0) for arm in ("left arm", "right arm"))
    assert left[1] > right[1] + 30


def test_lip_has_one_value_for_each_class(tmp_path: Path) -> None:
    layouts.lip(tmp_path)
    assert LIP(tmp_path, "val")[0][1].tolist() == [[0, 14], [15, 19]]
    layouts.lip(tmp_path, rows=((0, 20), (0, 0)))
    with pytest.raises(DataError, match=r"train_1\.png holds the value 20 on 1 of its 4 pixels"):
        LIP(tmp_path, "train")[0]


def test_kitti_has_the_label_ids_of_cityscapes(tmp_path: Path) -> None:
    layouts.kitti(tmp_path)
    dataset = KITTI(tmp_path, "train")
    assert dataset[0][1].tolist() == [[0, 13], [255, 18]]  # road, car, ignored, bicycle
    assert dataset.classes[13] == "car"


def test_kitti_holds_out_its_last_frames(tmp_path: Path) -> None:
    layouts.kitti(tmp_path)
    opened = {split: KITTI(tmp_path, split) for split in ("train", "val", "trainval")}
    assert {split: [pair.name for pair in dataset.pairs] for split, dataset in opened.items()} == {
        "train": ["000000_10", "000159_10"],
        "val": ["000160_10"],
        "trainval": ["000000_10", "000159_10", "000160_10"],
    }
    assert opened["val"].notices[-1] == "kitti's val is segctl's own choice: the benchmark has none."
    for number in range(200):
        layouts.photo(tmp_path / "training/image_2" / f"{number:06d}_10.png")
        layouts.mask(tmp_path / "training/semantic" / f"{number:06d}_10.png", ((7, 26), (0, 33)))
    published = dataset_info(KITTI).splits
    assert published == {split: len(KITTI(tmp_path, split)) for split in published}
    assert (dataset_info(KITTI).train_split, dataset_info(KITTI).eval_split) == ("train", "val")


def test_a_split_without_labels_ignores_every_pixel(tmp_path: Path) -> None:
    layouts.kitti(tmp_path)
    dataset = KITTI(tmp_path, "test")
    image, mask = dataset[0]
    assert (dataset.name(0), image.shape) == ("000000_10", (2, 2, 3))
    assert mask.tolist() == dataset.mask(0).tolist() == [[255, 255], [255, 255]]
    assert dataset.notices == ("test has 1 sample here, 200 are published.",)
    assert dataset.fingerprint() == KITTI(tmp_path, "test").fingerprint()
    with pytest.raises(DataError, match="kitti has no split 'dev'; it has train, val, trainval and test"):
        KITTI(tmp_path, "dev")


def test_the_first_edition_of_vistas(tmp_path: Path) -> None:
    info = dataset_info(Mapillary)
    assert (len(info.classes), info.splits, info.unlabelled_splits) == (
        65,
        {"train": 18000, "val": 2000},
        {"test": 5000},
    )
    colors = dict(zip(info.classes, info.palette, strict=True))
    assert (colors["Bird"], colors["Sky"], colors["Ego Vehicle"]) == ((165, 42, 42), (70, 130, 180), (120, 10, 10))
    layouts.mapillary(tmp_path)
    dataset = Mapillary(tmp_path, "val")
    assert dataset[0][1].tolist() == [[0, 13], [255, 64]]  # bird, road, unlabelled, the car that the camera is on
    assert (dataset.classes[13], dataset.classes[64]) == ("Road", "Ego Vehicle")
    assert Mapillary(tmp_path, "test").mask(0).tolist() == [[255, 255], [255, 255]]


def test_trimaps_become_pet_and_background(tmp_path: Path) -> None:
    layouts.oxford_pet(tmp_path)
    dataset = OxfordPet(tmp_path, "trainval")
    assert [dataset.name(index) for index in range(len(dataset))] == ["beagle_7", "Abyssinian_100"]
    assert dataset[0][1].tolist() == [[1, 0], [255, 1]]
    assert OxfordPet(tmp_path, "test").name(0) == "Birman_3"


def test_what_is_wrong_with_pets_is_named(tmp_path: Path) -> None:
    layouts.oxford_pet(tmp_path)
    Image.new("L", (2, 2), 0).save(tmp_path / "annotations" / "trimaps" / "Birman_3.png")
    with pytest.raises(DataError, match=r"Birman_3\.png holds the value 0 on 4 of its 4 pixels"):
        OxfordPet(tmp_path, "test")[0]
    layouts.lines(tmp_path / "annotations" / "test.txt", "Birman_3")
    with pytest.raises(DataError, match=r"test\.txt:1 should hold a name and three numbers, but reads 'Birman_3'"):
        OxfordPet(tmp_path, "test")
    layouts.lines(tmp_path / "annotations" / "test.txt", "Birman_4 8 1 4")
    with pytest.raises(
        DataError, match=r"images/Birman_4\.jpg, listed in .*test\.txt, does not exist, nor does another file"
    ):
        OxfordPet(tmp_path, "test")
