"""Several images at once on a CPU, each computed by one thread.

Convolutions on a CPU round differently with one, two or three threads, so that a pixel between two classes could change
sides with the number of processes among which the cores are shared. One thread for each image makes every result
independent of that; cores are kept busy by images side by side instead, which is no slower.
"""

from __future__ import annotations

import copy
import queue
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import torch
from torch import nn

__all__ = ["ImageThreads"]

Result = TypeVar("Result")
MOST_THREADS = 16  # beyond these Python's own lock is the limit


class ImageThreads(Generic[Result]):
    """Runs ``task(model, *arguments)`` for one image after the other; on a CPU several at once. A context manager.

    Args:
        model: In evaluation mode on entry. Each thread gets a copy of its own that shares the weights, for modules that
            keep notes during a forward pass.
        task: Its result must depend on its arguments alone.
        device: Where the model is; on a GPU, tasks run one by one in the calling thread.
        pixels: The largest sum of the sizes of images at work, to bound memory; a single larger one is taken alone.
    """

    def __init__(self, model: nn.Module, task: Callable[..., Result], *, device: torch.device, pixels: int) -> None:
        self._model, self._task, self._device, self._pixels = model, task, device, pixels
        self._restored = torch.get_num_threads()
        self._models: queue.SimpleQueue[nn.Module] = queue.SimpleQueue()
        self._at_work: deque[tuple[int, Future[Result]]] = deque()
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> ImageThreads[Result]:
        models = [self._model]
        if self._device.type == "cpu":
            models += _copies(self._model, min(MOST_THREADS, self._restored) - 1)
            torch.set_num_threads(1)
        for model in models:
            self._models.put(model)
        self._threads = len(models)
        if self._threads > 1:  # the number of torch's threads is a setting of each thread
            self._pool = ThreadPoolExecutor(self._threads, "image", torch.set_num_threads, (1,))
        return self

    def __exit__(self, *failure: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self._restored)

    def submit(self, pixels: int, *arguments: Any) -> list[Result]:
        """Hands over the next image, of `pixels` pixels; returns earlier results, in order, that it had to wait for."""
        if self._pool is None:
            return [self._run(*arguments)]
        finished = []
        while self._at_work and self._is_full(pixels):
            finished.append(self._at_work.popleft()[1].result())
        self._at_work.append((pixels, self._pool.submit(self._run, *arguments)))
        return finished

    def finish(self) -> list[Result]:
        """Waits for the images that are still at work."""
        finished = [future.result() for _, future in self._at_work]
        self._at_work.clear()
        return finished

    def _is_full(self, pixels: int) -> bool:
        return len(self._at_work) >= self._threads or pixels + sum(size for size, _ in self._at_work) > self._pixels

    def _run(self, *arguments: Any) -> Result:
        model = self._models.get()
        try:
            return self._task(model, *arguments)
        finally:
            self._models.put(model)


def _copies(model: nn.Module, count: int) -> list[nn.Module]:
    """Copies whose weights and statistics are the model's own tensors; none of a model that cannot be copied."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    try:
        return [copy.deepcopy(model, dict(shared)) for _ in range(count)]
    except Exception:  # a plugin may hold anything, a lock or an open file among it
        return []
