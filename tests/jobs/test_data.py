"""The stream of samples: a function of (seed, step, sample), whatever the number of processes and workers."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from segctl.config.schema import Augment, Input
from segctl.errors import DataError
from segctl.plugin import DatasetInfo, dataset_info
from segctl_datasets.shapes import Shapes
from segctl_jobs.data import Batch, StepSampler, TrainingSamples, check_pair, training_batches
from segctl_jobs.distributed import World

ALONE = World(0, 1, 0, 1, torch.device("cpu"))
INFO = DatasetInfo(classes=("a", "b", "c"), palette=((0, 0, 0),) * 3, ignore_index=255)


def global_batches(size: int, *, start: int = 0, total: int = 6) -> list[list[tuple[int, int]]]:
    shares = [list(StepSampler(10, 7, 3, start=start, total=total, rank=rank, size=size)) for rank in range(size)]
    return [list(itertools.chain.from_iterable(share[step] for share in shares)) for step in range(total - start)]


def test_every_sample_once_per_epoch_and_none_dropped() -> None:
    stream = [index for batch in global_batches(1, total=10) for _, index in batch]  # 70 samples: 7 epochs of 10
    epochs = [stream[first : first + 10] for first in range(0, 70, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1, "every epoch has the same order"


@pytest.mark.parametrize("size", [2, 3, 7])
def test_global_batches_do_not_depend_on_the_number_of_processes(size: int) -> None:
    assert global_batches(size) == global_batches(1)


def test_a_resumed_stream_goes_on_in_the_middle_of_an_epoch() -> None:
    assert global_batches(1, start=4) == global_batches(1)[4:]


def test_shares_differ_by_at_most_one() -> None:
    sizes = [len(next(iter(StepSampler(10, 7, 0, start=0, total=1, rank=rank, size=3)))) for rank in range(3)]
    assert sorted(sizes) == [2, 2, 3]


def batches(workers: int, seed: int = 1, start: int = 0) -> list[Batch]:
    dataset = Shapes(Path(), "train", size=32, samples=9)
    settings = Augment(crop=(24, 40), brightness=0.3, hue=0.1, blur=0.5)
    samples = TrainingSamples(dataset, dataset_info(dataset), seed, settings, Input())
    return list(training_batches(samples, StepSampler(9, 4, seed, start=start, total=5), ALONE, workers))


@pytest.mark.slow
def test_pixels_do_not_depend_on_workers_or_on_what_ran_before() -> None:
    alone, helped, resumed = batches(0), batches(3), batches(0, start=3)
    for one, other in [*zip(alone, helped, strict=True), *zip(alone[3:], resumed, strict=True)]:
        assert one.names == other.names
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.masks, other.masks)


def test_batches_are_uint8_channels_last_and_change_with_the_seed() -> None:
    batch = batches(0)[0]
    assert batch.images.dtype == batch.masks.dtype == torch.uint8
    assert batch.images.shape == (4, 3, 24, 40)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(batch.images, batches(0, seed=2)[0].images)


def test_a_sample_is_augmented_differently_in_each_epoch() -> None:
    dataset = Shapes(Path(), "train", size=32, samples=1)
    samples = TrainingSamples(dataset, dataset_info(dataset), 0, Augment(crop=24), Input())
    first, second = samples[(0, 0)], samples[(1, 0)]
    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    assert not torch.equal(first[0], second[0])


def test_masks_with_undeclared_values_are_refused_by_name_and_value() -> None:
    mask = np.zeros((4, 4), np.uint8)
    mask[0, 0], mask[1, 1] = 255, 7
    with pytest.raises(DataError, match=r"Sample street_7: its mask holds 7, but the 3 classes are 0 to 2 .* 255"):
        check_pair(np.zeros((4, 4, 3), np.uint8), mask, INFO, "street_7")
    mask[1, 1] = 2
    check_pair(np.zeros((4, 4, 3), np.uint8), mask, INFO, "street_7")


def test_image_and_mask_of_different_sizes_are_refused() -> None:
    with pytest.raises(DataError, match=r"Sample x: the image is 5x4, its mask 4x4"):
        check_pair(np.zeros((4, 5, 3), np.uint8), np.zeros((4, 4), np.uint8), INFO, "x")


class Uneven:
    classes = ("a", "b")
    ignore_index = 255

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((8, 8 + index, 3), np.uint8), np.zeros((8, 8 + index), np.uint8)

    def name(self, index: int) -> str:
        return str(index)


@pytest.mark.parametrize("workers", [0, 1])
def test_data_errors_cross_the_worker_boundary_as_one_sentence(workers: int) -> None:
    dataset = Uneven()
    samples = TrainingSamples(dataset, dataset_info(dataset), 0, Augment(crop=None, scale=(1, 1)), Input())
    with pytest.raises(DataError) as caught:
        list(training_batches(samples, StepSampler(4, 4, 0, start=0, total=1), ALONE, workers))
    assert caught.value.message == "Images of different sizes (8x8, 9x8, 10x8 and 11x8) cannot share a batch."
    assert caught.value.hint == "Set augment.crop to a size."
