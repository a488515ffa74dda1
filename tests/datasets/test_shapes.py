"""The shapes data set: the same in every process, fast, learnable by outline and by nothing cheaper."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segctl.errors import DataError
from segctl_datasets.shapes import Shapes

HERE = Path()


def fingerprint(dataset: Shapes, indices: range) -> str:
    digest = hashlib.sha256()
    for index in indices:
        for array in dataset[index]:
            digest.update(array.tobytes())
    return digest.hexdigest()


def test_a_sample_is_an_rgb_image_and_a_mask_of_declared_values() -> None:
    dataset = Shapes(HERE, "train", size=48)
    seen = set()
    for index in range(60):
        image, mask = dataset[index]
        assert (image.shape, image.dtype, image.flags.c_contiguous) == ((48, 48, 3), np.uint8, True)
        assert (mask.shape, mask.dtype, mask.flags.c_contiguous) == ((48, 48), np.uint8, True)
        seen |= set(np.unique(mask).tolist())
    assert seen == {0, 1, 2, 3, 4, 255}
    assert len(Shapes.palette) == len(Shapes.classes) == 5


def test_sizes_of_the_splits() -> None:
    assert len(Shapes(HERE, "train", samples=7)) == 7
    assert len(Shapes(HERE, "val", samples=7, eval_samples=3)) == 3
    assert len(list(Shapes(HERE, "val", eval_samples=3))) == 3  # iteration ends
    with pytest.raises(IndexError):
        Shapes(HERE, "val", eval_samples=3)[3]


def test_a_sample_depends_on_split_and_index_alone() -> None:
    """Not on what was drawn before, on numpy's global state, on the number of samples, or on the process."""
    dataset = Shapes(HERE, "train")
    expected = fingerprint(dataset, range(5, 9))
    dataset[100]
    np.random.seed(1)
    assert fingerprint(dataset, range(5, 9)) == expected
    assert fingerprint(Shapes(HERE, "train", samples=50), range(5, 9)) == expected
    assert fingerprint(pickle.loads(pickle.dumps(dataset)), range(5, 9)) == expected

    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_shapes import *; "
        "print(fingerprint(Shapes(HERE, 'train'), range(5, 9)))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == expected


def test_samples_and_splits_differ() -> None:
    train, val = Shapes(HERE, "train"), Shapes(HERE, "val")
    images = [dataset[index][0].tobytes() for dataset in (train, val) for index in range(50)]
    assert len(set(images)) == 100


def test_names_are_unique_and_fit_for_files() -> None:
    dataset = Shapes(HERE, "train", samples=20)
    names = [dataset.name(index) for index in range(20)]
    assert len(set(names)) == 20
    assert names[3] == "train-000003"


def test_classes_are_not_told_by_colour() -> None:
    """The best answer that looks at one pixel's colour: the class that is most frequent among training pixels of that
    colour, as counted and weighted by the classes' frequencies, which favours the rare ones as mIoU does."""
    train, val = Shapes(HERE, "train"), Shapes(HERE, "val")
    counts = np.zeros((16**3, 5))
    for index in range(400):
        image, mask = train[index]
        np.add.at(counts, (colour_bin(image)[mask != 255], mask[mask != 255]), 1)
    for weights in (np.ones(5), 1 / counts.sum(axis=0)):
        lookup = (counts * weights).argmax(axis=1)
        assert mean_iou(val, lambda image, mask, lookup=lookup: lookup[colour_bin(image)]) < 0.35


@pytest.mark.parametrize("answer", range(5))
def test_finding_the_shapes_without_telling_them_apart_is_not_enough(answer: int) -> None:
    """One answer for all shapes, though the ground is known to the pixel; with answer 0, everything is background."""
    assert mean_iou(Shapes(HERE, "val"), lambda image, mask: np.where(mask > 0, answer, 0)) < 0.4


def colour_bin(image: np.ndarray) -> np.ndarray:
    """16 levels for each channel."""
    return (image >> 4).astype(np.int64) @ np.array([256, 16, 1])


def mean_iou(dataset: Shapes, predict: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float:
    confusion = np.zeros((5, 5))
    for index in range(100):
        image, mask = dataset[index]
        counted = mask != 255
        np.add.at(confusion, (mask[counted], predict(image, mask)[counted]), 1)
    correct = np.diag(confusion)
    return float(np.mean(correct / (confusion.sum(0) + confusion.sum(1) - correct)))


def test_every_class_is_common_enough_to_be_learnt() -> None:
    dataset = Shapes(HERE, "train")
    shares = sum(np.bincount(dataset[index][1].ravel(), minlength=256) for index in range(200)) / (200 * 64 * 64)
    assert shares[0] < 0.8
    assert (shares[1:5] > 0.04).all()
    assert 0.02 < shares[255] < 0.2  # outlines, as in PASCAL VOC


def test_outlines_are_visible() -> None:
    """Beside each ignored band, a shape's colour is far from the ground's: the task can be solved."""
    dataset = Shapes(HERE, "train")
    contrasts = []
    for index in range(50):
        image, mask = dataset[index]
        ground = image[mask == 0].mean(axis=0)
        contrasts += [np.linalg.norm(image[mask == kind].mean(axis=0) - ground) for kind in set(mask.flat) - {0, 255}]
    assert np.quantile(contrasts, 0.1) > 60


def test_a_sample_takes_less_than_two_milliseconds() -> None:
    dataset = Shapes(HERE, "train")
    took = []
    for index in range(60):
        start = time.perf_counter()
        dataset[index]
        took.append(time.perf_counter() - start)
    assert min(took) < 0.002  # the least disturbed one: other processes may share the core


@pytest.mark.parametrize(
    ("split", "options", "message"),
    [
        ("training", {}, "shapes has no split 'training'"),
        ("train", {"size": 8}, "cannot be drawn on 8 x 8 pixels"),
        ("train", {"samples": 0}, "at least one sample"),
    ],
)
def test_what_cannot_be_drawn_is_refused(split: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Shapes(HERE, split, **options)
