"""What is read and resized of a sample is its crop alone, and gives what the whole picture would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segctl.config.schema import Augment, Input
from segctl.errors import DataError
from segctl.plugin import dataset_info
from segctl_datasets.camvid import CamVid
from segctl_datasets.folder import Folder
from segctl_datasets.pairs import Pair, PairDataset
from segctl_jobs.data import TrainingSamples


class Files(PairDataset):
    classes = ("a", "b", "c")


class WholeOnly:
    """A data set of third parties, with no more than they must have."""

    def __init__(self, dataset: PairDataset) -> None:
        self.classes, self.ignore_index, self._dataset = dataset.classes, dataset.ignore_index, dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self._dataset[index]

    def name(self, index: int) -> str:
        return self._dataset.name(index)


def files(tmp_path: Path, suffix: str = "png", height: int = 60) -> Files:
    generator = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(generator.integers(0, 256, (height, 80, 3), dtype=np.uint8)).save(tmp_path / f"images/a.{suffix}")
    Image.fromarray(generator.integers(0, 3, (60, 80), dtype=np.uint8)).save(tmp_path / "masks/a.png")
    return Files(tmp_path, "train", [Pair("a", f"images/a.{suffix}", "masks/a.png")])


def rows(count: int) -> Callable[[np.ndarray], int]:
    return lambda mask: count


def drawn(dataset: object, settings: Augment, position: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    sample = TrainingSamples(dataset, dataset_info(dataset), 0, settings, Input())[position, 0]
    if isinstance(sample, Exception):
        raise sample
    return sample[:2]


def test_only_the_rows_that_are_wanted_are_decoded(tmp_path: Path) -> None:
    dataset = files(tmp_path)
    image, mask = dataset[0]
    for count in (1, 17, 60):
        part, whole_mask = dataset.read(0, rows(count))
        assert np.array_equal(part, image[:count])
        assert np.array_equal(whole_mask, mask)
    assert files(tmp_path, "jpg").read(0, rows(17))[0].shape == (60, 80, 3)


def test_crops_are_the_same_as_from_whole_images(tmp_path: Path) -> None:
    settings = Augment(crop=24, scale=(0.5, 2.0), brightness=0.2, blur=0.5)
    for suffix in ("png", "jpg"):
        dataset = files(tmp_path, suffix)
        for position in range(12):
            for part, whole in zip(
                drawn(dataset, settings, position), drawn(WholeOnly(dataset), settings, position), strict=True
            ):
                assert torch.equal(part, whole)


def test_images_of_another_size_than_their_mask_are_refused_all_the_same(tmp_path: Path) -> None:
    for height in (59, 61, 24):
        dataset = files(tmp_path, height=height)
        for source in (dataset, WholeOnly(dataset)):
            for position in range(4):
                with pytest.raises(DataError, match=rf"a\.png is 80 x 60 pixels, but its image .* is 80 x {height}"):
                    drawn(source, Augment(crop=24), position)


def test_a_picture_that_may_be_turned_is_decoded_whole(tmp_path: Path) -> None:
    """A folder's mask may lie on the upright picture: its first rows are then not the first that are stored."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    for number in range(8):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png", exif=exif)
        Image.fromarray(np.full((40, 30), number % 2, np.uint8)).save(tmp_path / "masks" / f"{number}.png")
    image, _ = Folder(tmp_path, "train").read(0, rows(5))
    assert np.array_equal(image, np.rot90(pixels, -1))


def test_a_crop_is_what_pillow_makes_of_the_whole_picture(test_data: Path) -> None:
    """The whole picture is the crop: Pillow resizes it in one go, as the reference project does."""
    dataset = CamVid(test_data / "camvid", "train")
    pair = dataset.pairs[0]
    picture, mask = Image.open(dataset.root / pair.image).convert("RGB"), Image.open(dataset.root / pair.mask)
    for scale, size in ((0.5, (240, 180)), (0.75, (360, 270)), (1.5, (720, 540)), (2.0, (960, 720))):
        settings = Augment(crop=(size[1], size[0]), scale=(scale, scale), flip=0, max_class_share=1)
        pixels, labels = drawn(dataset, settings)
        expected = np.asarray(picture.resize(size, Image.Resampling.BILINEAR)).astype(int)
        # Both round in between, and not at the same places.
        assert np.abs(pixels.numpy() - expected).max() <= 1
        shown = np.asarray(mask.resize(size, Image.Resampling.NEAREST))
        # A target pixel whose centre falls between two has no nearest one.
        assert (labels.numpy() == np.where(shown == 11, dataset.ignore_index, shown)).mean() > 0.99
