"""The same counts whatever the number of processes and threads, equal to a numpy count over the predictions on disk."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from counted_samples import ALONE, LastBits, Samples, counted, random_samples
from PIL import Image
from torch import Tensor, nn

from segctl.config.schema import Evaluation, Input
from segctl.errors import DataError, RunError
from segctl.plugin import dataset_info
from segctl.runs.run import Run
from segctl_datasets.camvid import CamVid
from segctl_jobs import counting, distributed
from segctl_jobs.distributed import World


def on_processes(size: int, function: Callable[[World], Any], folder: Path) -> list[Any]:
    """What `function` returns on each of `size` real processes, by rank."""
    # A fork server imports torch once for all of them.
    torch.multiprocessing.get_context("forkserver").set_forkserver_preload(["segctl_jobs.evaluate", __name__])
    torch.multiprocessing.start_processes(
        _one_process, (size, function, folder), nprocs=size, start_method="forkserver"
    )
    return [pickle.loads((folder / f"result{rank}").read_bytes()) for rank in range(size)]


def _one_process(rank: int, size: int, function: Callable[[World], Any], folder: Path) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(size))
    torch.set_num_threads(1 + rank)  # cores need not be shared evenly
    world = distributed.connect(Run(folder))
    (folder / f"result{rank}").write_bytes(pickle.dumps(function(world)))
    distributed.disconnect()


# --- the counts ---


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_counts_equal_a_numpy_count_over_the_saved_predictions(tmp_path: Path, threads: int) -> None:
    dataset = Samples(random_samples(7))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        confusion = counted(dataset, predictions=tmp_path)
    finally:
        torch.set_num_threads(before)
    expected = np.zeros((5, 5), np.int64)
    for index, (_, mask) in enumerate(dataset.samples):
        with Image.open(tmp_path / f"sample-{index}.png") as picture:
            predicted = np.asarray(picture)
        assert predicted.shape == mask.shape
        valid = mask != 255
        np.add.at(expected, (mask[valid], predicted[valid]), 1)
    assert np.array_equal(confusion, expected)


def test_the_number_of_threads_changes_nothing() -> None:
    dataset = Samples(random_samples(7))
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(counted(dataset))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


@pytest.mark.parametrize("threads", [1, 2])
def test_nothing_is_compiled_for_it(threads: int) -> None:
    """A compiled model would be compiled anew for each size of image, which takes longer than the evaluation."""
    dataset, model, compilations = Samples(random_samples(3)), LastBits(), []

    def compiler(graph: Any, inputs: Any) -> Any:
        compilations.append(inputs)
        return graph

    expected = counted(dataset, model=model)
    model.compile(backend=compiler)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert np.array_equal(counted(dataset, model=model), expected)
    finally:
        torch.set_num_threads(before)
    assert compilations == []
    model(torch.zeros(2, 3, 8, 8))
    assert compilations


def test_real_frames_are_counted_once_each(test_data: Path) -> None:
    dataset = CamVid(test_data / "camvid", "val")
    few = Samples([dataset[index] for index in range(3)], classes=dataset.classes, ignore_index=dataset.ignore_index)

    class Road(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.one_hot(torch.full((1, *x.shape[-2:]), 3), 11).permute(0, 3, 1, 2).float()

    confusion = counted(few, model=Road())
    for index in range(11):
        assert confusion[index, 3] == sum((mask == index).sum() for _, mask in few.samples)
    assert confusion.sum() == confusion[:, 3].sum() == sum((mask != 11).sum() for _, mask in few.samples)


def _evaluate_seven(world: World) -> np.ndarray:
    model = LastBits()
    for buffer in model.buffers():  # statistics that were never synchronised: a checkpoint holds rank 0's
        buffer += world.rank
    return counted(Samples(random_samples(7)), world, model=model, workers=world.rank % 2)


@pytest.mark.slow
def test_one_two_and_three_processes_count_the_same(tmp_path: Path) -> None:
    alone = counted(Samples(random_samples(7)))
    for size in (2, 3):
        folder = tmp_path / str(size)
        folder.mkdir()
        for result in on_processes(size, _evaluate_seven, folder):
            assert np.array_equal(result, alone)


def _evaluate_two(world: World) -> np.ndarray:
    return counted(Samples(random_samples(2)), world)


@pytest.mark.slow
def test_more_processes_than_images(tmp_path: Path) -> None:
    alone = counted(Samples(random_samples(2)))
    for result in on_processes(3, _evaluate_two, tmp_path):
        assert np.array_equal(result, alone)


def _stopped_on_the_last(world: World) -> tuple[bool, int]:
    polled = 0

    def stop() -> bool:
        nonlocal polled
        polled += 1
        return world.rank == world.size - 1 and polled > 2

    return counted(Samples(random_samples(50)), world, stop=stop) is None, polled


@pytest.mark.slow
def test_all_processes_stop_when_one_is_asked_to(tmp_path: Path) -> None:
    stopped = on_processes(2, _stopped_on_the_last, tmp_path)
    assert stopped[0] == stopped[1]  # both, at the same poll
    assert stopped[0][0]


# --- what it does beside counting ---


def test_stops_when_asked(tmp_path: Path) -> None:
    assert counted(Samples(random_samples(3)), stop=lambda: True, predictions=tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_progress_ends_at_the_total() -> None:
    calls: list[tuple[int, int]] = []
    counted(Samples(random_samples(5)), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_the_model_comes_back_in_the_mode_in_which_it_came() -> None:
    model = LastBits().train()
    statistics = {name: value.clone() for name, value in model.state_dict().items()}
    counted(Samples(random_samples(2)), model=model)
    assert model.training
    assert all(torch.equal(value, statistics[name]) for name, value in model.state_dict().items())
    counted(Samples(random_samples(2)), model=model.eval())
    assert not model.training


def test_a_model_that_keeps_notes_and_one_that_cannot_be_copied() -> None:
    class Notes(LastBits):
        def forward(self, x: Tensor) -> Tensor:
            self.size = x.shape[-2:]  # threads that shared it would read each other's
            return super().forward(x)[..., : self.size[0], : self.size[1]]

    expected = counted(Samples(random_samples(7)))
    model = Notes()
    locked = LastBits()
    locked.lock = threading.Lock()
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert np.array_equal(counted(Samples(random_samples(7)), model=model), expected)
        assert np.array_equal(counted(Samples(random_samples(7)), model=locked), expected)
    finally:
        torch.set_num_threads(before)


def test_large_images_are_counted_as_tiled() -> None:
    dataset = Samples(random_samples(6))  # two each of 96, 103 and 110 rows, of 128 to 143 columns
    info = dataset_info(dataset)
    result = counting.count(
        LastBits(), dataset, info, Evaluation(max_pixels=13_500), Input(), ALONE, amp=None, workers=0
    )
    sizes = [mask.size for _, mask in dataset.samples]
    assert result.tiled == sum(size > 13_500 for size in sizes)
    assert 0 < result.tiled < 6
    assert result.images == 6
    assert result.confusion.sum() == sum((mask != 255).sum() for _, mask in dataset.samples)


def test_data_workers_change_nothing() -> None:
    dataset = Samples(random_samples(5))
    assert np.array_equal(counted(dataset, workers=2), counted(dataset, workers=0))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_value_that_is_no_class_is_refused_with_the_samples_name(workers: int) -> None:
    samples = random_samples(3)
    samples[1][1][5, 5] = 9
    with pytest.raises(DataError, match=r"^Sample sample-1: its mask holds 9"):
        counted(Samples(samples), workers=workers)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_the_data_set_stays_one_sentence(workers: int) -> None:
    class Damaged(Samples):
        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            if index == 2:
                raise DataError("c.png cannot be decoded.", "Fetch it again.")
            return super().__getitem__(index)

    with pytest.raises(DataError) as caught:
        counted(Damaged(random_samples(3)), workers=workers)
    assert str(caught.value) == "c.png cannot be decoded. Fetch it again."


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16])
def test_masks_of_any_integer_type(dtype: type) -> None:
    samples = random_samples(3)
    expected = counted(Samples(samples))
    others = [(image, mask.astype(dtype)) for image, mask in samples]
    assert np.array_equal(counted(Samples(others)), expected)


def test_an_ignored_value_below_zero() -> None:
    samples = random_samples(3)
    expected = counted(Samples(samples))
    others = [(image, np.where(mask == 255, -1, mask.astype(np.int64))) for image, mask in samples]
    assert np.array_equal(counted(Samples(others, ignore_index=-1)), expected)


# --- predictions on disk ---


class Stripes(nn.Module):
    """Class k in every fifth row."""

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.arange(x.shape[-2]) % 5
        return nn.functional.one_hot(rows[:, None].expand(x.shape[-2:]), 5).permute(2, 0, 1)[None].float()


def test_predictions_carry_the_data_sets_own_values_and_colours(tmp_path: Path) -> None:
    palette = ((128, 64, 128), (244, 35, 232), (70, 70, 70), (0, 0, 142), (1, 2, 3))
    dataset = Samples(random_samples(1), ["frankfurt/a.b_000"], labels=(7, 8, 11, 26, 200), palette=palette)
    counted(dataset, model=Stripes(), predictions=tmp_path)
    with Image.open(tmp_path / "frankfurt" / "a.b_000.png") as picture:
        assert picture.mode == "P"
        assert np.asarray(picture)[:6, 0].tolist() == [7, 8, 11, 26, 200, 7]
        assert np.asarray(picture.convert("RGB"))[:5, 0].tolist() == [list(color) for color in palette]


def test_values_beyond_a_byte_are_written_as_16_bits(tmp_path: Path) -> None:
    counted(Samples(random_samples(1), labels=(0, 1, 2, 3, 1000)), model=Stripes(), predictions=tmp_path)
    with Image.open(tmp_path / "sample-0.png") as picture:
        assert np.asarray(picture)[:5, 0].tolist() == [0, 1, 2, 3, 1000]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a", "a.png"),
        ("sub/a.jpg", "sub/a.png"),
        ("0016E5.07959", "0016E5.07959.png"),
        ("../../etc/a", "etc/a.png"),
        ("/etc/passwd", "etc/passwd.png"),
    ],
)
def test_predictions_stay_in_their_folder(name: str, expected: str) -> None:
    assert counting.prediction_path(Path("out"), name) == Path("out") / expected


def test_a_prediction_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        RunError, match=r"The prediction .*sample-0\.png cannot be written: (Not a directory|File exists)\."
    ):
        counted(Samples(random_samples(1)), predictions=tmp_path / "file")
