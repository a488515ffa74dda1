"""All samples through worker processes, in order, with a bounded number under way."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, NamedTuple

from segctl.data_check.sample import Seen, Tally, examine
from segctl.errors import DataError
from segctl.plugin import DatasetInfo

__all__ = ["Chunk", "OpenSplit", "look_through"]

_TOGETHER = 16  # samples in one task
_AHEAD = 3  # tasks under way for each process


class OpenSplit(NamedTuple):
    name: str
    dataset: Any
    info: DatasetInfo

    @property
    def labelled(self) -> bool:
        return self.name not in (self.info.unlabelled_splits or ())


class Chunk(NamedTuple):
    """Samples of one split that were looked at, in order.

    Attributes:
        split: Its place among the splits.
        start: Index of the first one.
        seen: One for each.
        tally: Their sums.
    """

    split: int
    start: int
    seen: tuple[Seen, ...]
    tally: Tally


def look_through(splits: Sequence[OpenSplit], workers: int) -> Iterator[Chunk]:
    """Every sample of every split, in the order of the splits and samples whatever the number of workers.

    Args:
        splits: What to look through. Workers get the data sets as `torch.utils.data.DataLoader` gives them: by fork.
        workers: Processes; with one, it is done in this process.

    Raises:
        DataError: A worker was killed, as happens when memory runs out.
    """
    tasks = (
        (number, start, min(start + _TOGETHER, len(split.dataset)))
        for number, split in enumerate(splits)
        for start in range(0, len(split.dataset), _TOGETHER)
    )
    if workers <= 1:
        for task in tasks:
            yield _look(splits, *task)
        return
    pool = ProcessPoolExecutor(workers, get_context("fork"), _start, (tuple(splits), os.getpid()))
    under_way: deque[tuple[tuple[int, int, int], Future[Chunk]]] = deque()
    try:
        for task in tasks:
            under_way.append((task, pool.submit(_look_in_worker, *task)))
            if len(under_way) >= _AHEAD * workers:
                yield _result(splits, *under_way.popleft())
        while under_way:
            yield _result(splits, *under_way.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)  # what is under way takes a moment; nothing is left behind


def _result(splits: Sequence[OpenSplit], task: tuple[int, int, int], future: Future[Chunk]) -> Chunk:
    try:
        return future.result()
    except BrokenProcessPool as error:
        number, start, stop = task
        split = splits[number]
        between = f"{split.dataset.name(start)} and {split.dataset.name(stop - 1)}"
        raise DataError(
            f"A worker process was killed, probably for want of memory, near the samples {between} of {split.name}.",
            "Look at these files; `--workers 1` needs the least memory and goes through them one by one.",
        ) from error


def _look(splits: Sequence[OpenSplit], number: int, start: int, stop: int) -> Chunk:
    split = splits[number]
    dataset, info, labelled = split.dataset, split.info, split.labelled
    tally = Tally(len(info.classes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about files of which more is said anyway
        seen = tuple(examine(dataset, info, index, tally, labelled=labelled) for index in range(start, stop))
    return Chunk(number, start, seen, tally)


_splits: tuple[OpenSplit, ...] = ()  # of a worker


def _start(splits: tuple[OpenSplit, ...], parent: int) -> None:
    global _splits
    _splits = splits
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent sees to the end
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """A parent that is killed says nothing, and workers would wait for it for ever."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _look_in_worker(number: int, start: int, stop: int) -> Chunk:
    return _look(_splits, number, start, stop)
