"""Exact counting: every image once, at its own resolution; the same counts on one process and on many."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from segctl.config import schema
from segctl.errors import RunError
from segctl.plugin import DatasetInfo, SegmentationDataset
from segctl_jobs.data import default_workers, stored_samples
from segctl_jobs.distributed import World
from segctl_jobs.image_threads import ImageThreads
from segctl_jobs.inference import is_tiled, pixels_at_once, predict_mask
from segctl_jobs.metrics import confusion_matrix
from segctl_jobs.pictures import mask_picture, save_png

__all__ = ["Counted", "count", "prediction_path"]

SECONDS_BETWEEN_POLLS = 2.0


@dataclass(frozen=True)
class Counted:
    """What all processes counted together.

    Attributes:
        confusion: ``(C, C)`` int64, rows are the truth.
        images: How many images were predicted.
        tiled: How many of them were too large to be predicted at once.
    """

    confusion: np.ndarray
    images: int
    tiled: int


def count(
    model: nn.Module,
    dataset: SegmentationDataset,
    info: DatasetInfo,
    settings: schema.Evaluation,
    input: schema.Input,
    world: World,
    *,
    amp: torch.dtype | None,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] | None = None,
    predictions: Path | None = None,
    workers: int | None = None,
) -> Counted | None:
    """Predicts every image of `dataset` and counts; every process of `world` must call it.

    Process r predicts the images r, r + size, r + 2 size, ..., one at a time, so that the counts do not depend on the
    number of processes. The model is left in the mode (training or evaluation) in which it came.

    Args:
        model: On ``world.device``.
        info: The facts of `dataset`.
        amp: The dtype of autocast; None: off.
        stop: Polled every few images on every process; when it is true on one, all stop.
        progress: Called on every process with the number of images done (on all) and their total.
        predictions: Folder for the predicted masks, ``<sample name>.png`` in the data set's own label values.
        workers: Data workers of this process; None: as many as there are free cores.

    Returns:
        The counts over all processes, the same on each; None on each when it was stopped.

    Raises:
        DataError: From the data set, or when a mask holds a value that is not declared.
        PluginError: The model's output is not of the promised shape.
        RunError: A prediction cannot be written.
    """
    model = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model  # DDP would synchronise
    classes = len(info.classes)

    def predict_and_count(model: nn.Module, index: int, image: np.ndarray, mask: np.ndarray) -> tuple[Tensor, int]:
        predicted = predict_mask(
            model,
            image,
            num_classes=classes,
            settings=settings,
            input=input,
            device=world.device,
            amp=amp,
            flip_pairs=info.flip_pairs,
        )
        if predictions is not None:
            _save(predicted, info, prediction_path(predictions, dataset.name(index)))
        truth, guess = torch.from_numpy(mask).to(world.device), torch.from_numpy(predicted).to(world.device)
        return confusion_matrix(truth, guess, classes, info.ignore_index), int(is_tiled(*mask.shape, settings))

    _share_statistics(model, world)
    confusion, tiled = torch.zeros(classes, classes, dtype=torch.int64, device=world.device), 0
    workers = default_workers(world) if workers is None else workers
    samples = stored_samples(dataset, info, range(world.rank, len(dataset), world.size), workers)
    agreement = _Agreement(world, stop)
    threads = ImageThreads(model, predict_and_count, device=world.device, pixels=settings.max_pixels)
    with _predicting(model), threads as images:
        for first in range(0, len(dataset), world.size):
            if agreement.stop():
                return None
            if first + world.rank < len(dataset):  # else this process has one image less, but still takes part
                index, image, mask = next(samples)
                for counts, was_tiled in images.submit(pixels_at_once(*mask.shape, settings), index, image, mask):
                    confusion, tiled = confusion + counts, tiled + was_tiled
            if progress is not None:
                progress(min(len(dataset), first + world.size), len(dataset))
        for counts, was_tiled in images.finish():
            confusion, tiled = confusion + counts, tiled + was_tiled
    sums = world.sum(torch.cat([confusion.cpu().reshape(-1), torch.tensor([tiled])]))
    return Counted(sums[:-1].reshape(confusion.shape).numpy(), len(dataset), int(sums[-1]))


@torch.no_grad()
def _share_statistics(model: nn.Module, world: World) -> None:
    """Gives all processes rank 0's running statistics, which differ where batch statistics are not synchronised.

    They are what a checkpoint holds, and so what an evaluation speaks of.
    """
    if world.size == 1:
        return
    for buffer in model.buffers():
        if buffer.is_floating_point():
            sent = buffer.contiguous()
            dist.broadcast(sent, src=0)
            buffer.copy_(sent)


def _save(predicted: np.ndarray, info: DatasetInfo, path: Path) -> None:
    try:
        save_png(mask_picture(predicted, info), path)
    except OSError as error:
        raise RunError(
            f"The prediction {path} cannot be written: {error.strerror or error}.",
            "Free some space or mend the file system.",
        ) from error


def prediction_path(folder: Path, name: str) -> Path:
    """Where a sample's prediction goes; its name may have sub-folders and a suffix, but never leads outside."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..")]
    *parents, last = parts or ["unnamed"]
    for suffix in (".png", ".jpg", ".jpeg"):
        last = last.removesuffix(suffix)
    return folder.joinpath(*parents, f"{last}.png")


class _Agreement:
    """Whether to stop, decided together: at fixed numbers of rounds, about every two seconds of the slowest process.

    The number of rounds until the next poll is computed from figures that all processes share, so that all poll at the
    same round.
    """

    def __init__(self, world: World, stop: Callable[[], bool]) -> None:
        self._world, self._stop = world, stop
        self._remaining, self._stride = 0, 1
        self._since = time.monotonic()

    def stop(self) -> bool:
        """To be called once a round, on every process."""
        if self._remaining > 0:
            self._remaining -= 1
            return False
        microseconds = int((time.monotonic() - self._since) / self._stride * 1e6)
        stopping, slowest = self._world.max([int(self._stop()), microseconds])
        self._since = time.monotonic()
        self._stride = max(1, min(2 * self._stride, int(SECONDS_BETWEEN_POLLS * 1e6 / max(1, slowest))))
        self._remaining = self._stride - 1
        return bool(stopping)


@contextlib.contextmanager
def _predicting(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and cuDNN without its timing contest, whose winner differs between processes.

    Nor is anything compiled: it would be, again for every size of image.
    """
    training, cudnn = model.training, torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    model.eval()
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before
        model.train(training)
