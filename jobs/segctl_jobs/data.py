"""Which samples make up each step, and how they reach the model.

Everything here is a function of (seed, step, slot in the batch): never of the number of workers or processes, nor of
what ran before.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from segctl.config.schema import Augment, Input
from segctl.errors import DataError, SegctlError, listing
from segctl.plugin import DatasetInfo, SegmentationDataset
from segctl_jobs import watchdog
from segctl_jobs.augment import Window, choose_window, take_crop
from segctl_jobs.distributed import World
from segctl_jobs.looks import Look, apply_looks

MAX_WORKERS = 8
CHECKED_ROWS = 32
LAST_SAMPLES_SECONDS = 60  # how long a data worker goes on that has been told to end


@dataclass(frozen=True)
class Batch:
    """One process's share of a step, on the host.

    Attributes:
        images: (n, 3, h, w) uint8, channels last in memory.
        masks: (n, h, w) integer class indices.
        names: The samples' names.
        looks: What the model's device is still to do to each image (`looks.apply_looks`); None: nothing.
    """

    images: Tensor
    masks: Tensor
    names: tuple[str, ...]
    looks: tuple[Look, ...] | None = None

    def pin_memory(self) -> Batch:
        return replace(self, images=self.images.pin_memory(), masks=self.masks.pin_memory())


def epoch_order(seed: int, epoch: int, length: int) -> np.ndarray:
    """The permutation of range(length) in which epoch `epoch` visits the data set."""
    return np.random.Generator(np.random.Philox(key=[seed, 2 * epoch + 1])).permutation(length)


def sample_generator(seed: int, position: int) -> np.random.Generator:
    """The randomness of the sample at `position` in the stream: a Philox stream of its own."""
    return np.random.Generator(np.random.Philox(key=[seed, 2 * position]))


class StepSampler(Sampler[list[tuple[int, int]]]):
    """For each step from `start` to `total`, this process's samples as (position in the stream, index) pairs.

    A step's samples are cut into contiguous shares, one per process, whose sizes differ by at most one.
    """

    def __init__(
        self, length: int, batch_size: int, seed: int, *, start: int, total: int, rank: int = 0, size: int = 1
    ) -> None:
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.start, self.total = start, total
        self.rank, self.size = rank, size

    def __len__(self) -> int:
        return self.total - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        first, last = self.batch_size * self.rank // self.size, self.batch_size * (self.rank + 1) // self.size
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for step in range(self.start, self.total):
            share = []
            for position in range(step * self.batch_size + first, step * self.batch_size + last):
                if position // self.length != epoch:
                    epoch = position // self.length
                    order = epoch_order(self.seed, epoch, self.length)
                share.append((position, int(order[position % self.length])))
            yield share


class Some:
    """At most `count` samples of a data set, spread evenly over it."""

    def __init__(self, dataset: SegmentationDataset, count: int) -> None:
        self._dataset = dataset
        self._indices = [index * len(dataset) // min(count, len(dataset)) for index in range(min(count, len(dataset)))]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self._dataset[self._indices[index]]

    def name(self, index: int) -> str:
        return self._dataset.name(self._indices[index])


Sample = tuple[Tensor, Tensor, str, "Look | None"]  # (h, w, 3) uint8; (h, w) integer; its name; what is to be done


class TrainingSamples(Dataset[Any]):
    """Augmented samples by (position, index).

    A data error is returned, not raised: a DataLoader would bury its sentence in a worker's traceback; `collate`
    raises it.

    Args:
        finished: Whether samples get their look here; otherwise it is the model's device that gives it.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        info: DatasetInfo,
        seed: int,
        settings: Augment,
        input: Input,
        *,
        finished: bool = True,
    ) -> None:
        self.dataset, self.info, self.seed, self.settings = dataset, info, seed, settings
        red, green, blue = (round(255 * channel) for channel in input.mean)
        self.fill = (red, green, blue)
        self.finished = finished

    def __getitem__(self, key: tuple[int, int]) -> Sample | SegctlError:
        position, index = key
        generator = sample_generator(self.seed, position)
        try:
            name = self.dataset.name(index)
            image, mask, window = self._read(index, name, generator)
        except SegctlError as error:
            return error
        pixels, labels, look = take_crop(
            image,
            mask,
            window,
            generator,
            self.settings,
            ignore_index=self.info.ignore_index,
            fill=self.fill,
            flip_pairs=self.info.flip_pairs,
        )
        if self.finished:
            apply_looks(pixels.permute(2, 0, 1)[None], [look])
        return pixels, labels, name, None if self.finished else look

    def _read(self, index: int, name: str, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Window]:
        """Image, mask and window; of the image, where the data set can do so, no more rows than the window needs."""

        def choose(mask: np.ndarray) -> Window:
            check_mask(mask, self.info, name)
            return choose_window(mask, generator, self.settings, self.info.ignore_index)

        read = getattr(self.dataset, "read", None)
        if read is None:
            image, mask = self.dataset[index]
            check_sizes(image, mask, name)
            return image, mask, choose(mask)
        chosen: list[Window] = []

        def rows(mask: np.ndarray) -> int:
            chosen.append(choose(mask))
            return chosen[0].bottom

        image, mask = read(index, rows)
        window = chosen[0] if chosen else choose(mask)
        if len(image) != window.bottom:
            check_sizes(image, mask, name)
        return image, mask, window


def check_pair(image: np.ndarray, mask: np.ndarray, info: DatasetInfo, name: str) -> None:
    """Refuses a sample that would be trained on wrongly.

    Raises:
        DataError: Image and mask differ in size, or the mask holds a value that is neither a class nor the ignored one.
    """
    check_sizes(image, mask, name)
    check_mask(mask, info, name)


def check_sizes(image: np.ndarray, mask: np.ndarray, name: str) -> None:
    """See `check_pair`."""
    if image.shape[:2] != mask.shape:
        raise DataError(
            f"Sample {name}: the image is {image.shape[1]}x{image.shape[0]}, its mask {mask.shape[1]}x{mask.shape[0]}."
        )


def check_mask(mask: np.ndarray, info: DatasetInfo, name: str) -> None:
    """See `check_pair`."""
    count = len(info.classes)
    signed = mask.dtype.kind == "i"
    # In parts that stay in the processor's cache: ten times as fast as all at once.
    for part in (mask[top : top + CHECKED_ROWS] for top in range(0, len(mask), CHECKED_ROWS)):
        refused = part >= count
        if signed:
            refused |= part < 0
        refused &= part != info.ignore_index
        if refused.any():
            wrong = np.unique(mask[((mask < 0) | (mask >= count)) & (mask != info.ignore_index)])
            raise DataError(
                f"Sample {name}: its mask holds {listing(str(value) for value in wrong[:5])}, but the {count} classes "
                f"are 0 to {count - 1} and the ignored value is {info.ignore_index}.",
                "Mend the mask, or declare the class.",
            )


def collate(samples: list[Sample | SegctlError]) -> Batch | SegctlError:
    for sample in samples:
        if isinstance(sample, SegctlError):
            return sample
    images, masks, names, looks = zip(*samples, strict=True)  # type: ignore[misc]
    sizes = {tuple(mask.shape) for mask in masks}
    if len(sizes) > 1:
        return DataError(
            f"Images of different sizes ({listing(f'{w}x{h}' for h, w in sorted(sizes))}) cannot share a batch.",
            "Set augment.crop to a size.",
        )
    planes = torch.stack(images).permute(0, 3, 1, 2)
    return Batch(planes, torch.stack(masks), names, None if None in looks else looks)


def default_workers(world: World) -> int:
    """Data workers per process: as many as it has cores; on a CPU, where the model needs them, one.

    Its share of the cores is the number of threads that the launcher gave it.
    """
    cores = torch.get_num_threads()
    if cores * world.local_size <= 1:
        return 0
    return 1 if world.device.type == "cpu" else max(1, min(MAX_WORKERS, cores - 1))


def start_worker(worker: int) -> None:
    # SLURM sends SIGTERM to every process of a job. The rank needs samples up to its last step, and its loader fails
    # where a worker dies before it is closed; then nothing would be saved.
    signal.signal(signal.SIGTERM, lambda signum, frame: signal.alarm(LAST_SAMPLES_SECONDS))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watchdog.show_stack_on_request()
    torch.set_num_threads(1)


def training_batches(samples: TrainingSamples, sampler: StepSampler, world: World, workers: int) -> Iterator[Batch]:
    """This process's batches, in the order of the steps.

    Raises:
        DataError: From the data set, or when images do not fit together.
    """
    loader = DataLoader(
        samples,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=world.device.type == "cuda",
        prefetch_factor=4 if workers else None,
        worker_init_fn=start_worker,
    )
    for batch in loader:
        if isinstance(batch, SegctlError):
            raise batch
        yield batch


class StoredSamples(Dataset[Any]):
    """Samples as they are, not augmented. Data errors are returned, as by `TrainingSamples`."""

    def __init__(self, dataset: SegmentationDataset, info: DatasetInfo) -> None:
        self.dataset, self.info = dataset, info

    def __getitem__(self, index: int) -> tuple[int, Tensor, Tensor] | SegctlError:
        try:
            image, mask = self.dataset[index]
            check_pair(image, mask, self.info, self.dataset.name(index))
        except SegctlError as error:
            return error
        # Tensors travel from a worker through shared memory, arrays would be copied through a pipe.
        return index, _tensor(image, np.uint8), _tensor(mask, np.uint8 if mask.dtype == np.uint8 else np.int64)


def _tensor(array: np.ndarray, dtype: type) -> Tensor:
    return torch.from_numpy(np.require(array, dtype, ["C", "W"]))


def stored_samples(
    dataset: SegmentationDataset, info: DatasetInfo, indices: Sequence[int], workers: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The samples of these indices, in order: index, (H, W, 3) uint8 image, (H, W) uint8 or int64 mask.

    Raises:
        DataError: From the data set, or when a mask holds a value that is not declared.
    """
    loader: DataLoader[Any] = DataLoader(
        StoredSamples(dataset, info),
        batch_size=None,
        sampler=indices,
        num_workers=min(workers, len(indices)),
        collate_fn=_as_it_is,
        worker_init_fn=start_worker,
    )
    for sample in loader:
        if isinstance(sample, SegctlError):
            raise sample
        index, image, mask = sample
        yield index, image.numpy(), mask.numpy()


def _as_it_is(sample: Any) -> Any:
    return sample
