"""How many pixels of each class the training masks have, for class weights: counted once for a data set."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segctl import registry
from segctl.config.schema import Config
from segctl.plugin import DatasetInfo, SegmentationDataset
from segctl.runs.files import cache_folder, read_json, write_json
from segctl_jobs import watchdog
from segctl_jobs.distributed import World

__all__ = ["count_class_pixels"]

log = logging.getLogger(__name__)


def count_class_pixels(
    dataset: SegmentationDataset, info: DatasetInfo, world: World, config: Config, run_file: Path
) -> list[int]:
    """Pixels of each class in all masks of the training split; every process of `world` must call it.

    They are kept in the run, so that a run which goes on has the weights that it began with; and in the user's cache,
    for other runs, where the data set has a ``fingerprint()``. What is in the cache counts only as long as that is the
    same. A data set without one is counted anew in each run.

    Args:
        dataset: The training split. Masks come from its ``mask(index)`` where it has one.
        config: Names the data set.
        run_file: Where the run keeps them.
    """
    classes = len(info.classes)
    cache = _Cache(dataset, info, config)
    own = _counts_in(read_json(run_file), classes) or cache.read() if world.is_main else None
    # Rank 0 tells the others, for a file may be seen by some of them only.
    found, *counts = world.sum(torch.tensor([int(own is not None), *(own or [0] * classes)])).tolist()
    if not found:
        log.info("counting the pixels of each class in %d masks", len(dataset))
        counts = [int(pixels) for pixels in world.sum(torch.from_numpy(_own_share(dataset, info, world))).tolist()]
        if world.is_main:
            cache.write(counts)
    if world.is_main and not run_file.exists():
        write_json(run_file, {"class_pixels": counts})
    return counts


def _own_share(dataset: SegmentationDataset, info: DatasetInfo, world: World) -> np.ndarray:
    """What this process counts in its share of the masks: ``(C,)`` int64."""
    read_mask = getattr(dataset, "mask", lambda index: dataset[index][1])

    def count(index: int) -> np.ndarray:
        mask = np.asarray(read_mask(index))
        watchdog.beat()
        return np.bincount(mask[mask != info.ignore_index], minlength=len(info.classes))[: len(info.classes)]

    zero = np.zeros(len(info.classes), np.int64)
    with ThreadPoolExecutor(4) as threads:
        return np.asarray(sum(threads.map(count, range(world.rank, len(dataset), world.size)), zero), dtype=np.int64)


class _Cache:
    """One file of the user's cache, for this data set with these options. Only rank 0 reads and writes it.

    Several jobs may: the file is replaced as a whole, and whoever writes, writes what is right for the masks that it
    saw.
    """

    def __init__(self, dataset: SegmentationDataset, info: DatasetInfo, config: Config) -> None:
        self._dataset = dataset
        self._classes = len(info.classes)
        entry = registry.find("datasets", config.dataset.name)
        self._key: dict[str, Any] = {
            "dataset": f"{entry.qualified} {entry.version}",
            "options": config.dataset.options,
            "data_root": config.data_root,
            "split": info.train_split,
            "classes": list(info.classes),
            "ignore_index": info.ignore_index,
        }
        digest = hashlib.sha256(json.dumps(self._key, sort_keys=True).encode()).hexdigest()[:16]
        self._file = cache_folder() / "class-pixels" / f"{entry.name}-{digest}.json"
        self._fingerprint: str | None = None

    def read(self) -> list[int] | None:
        """The counts, if there are any of these very masks. Takes note of how the masks are now."""
        self._fingerprint = self._now()
        content = read_json(self._file) or {}
        if self._fingerprint is None or content.get("fingerprint") != self._fingerprint:
            return None
        return _counts_in(content, self._classes)

    def write(self, counts: list[int]) -> None:
        """Keeps the counts, unless the masks have changed since `read`, while they were counted."""
        if self._fingerprint is None or self._fingerprint != self._now():
            return
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, no more
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._file, {**self._key, "fingerprint": self._fingerprint, "class_pixels": counts})

    def _now(self) -> str | None:
        fingerprint: str | None = getattr(self._dataset, "fingerprint", lambda: None)()
        return fingerprint


def _counts_in(content: dict[str, Any] | None, classes: int) -> list[int] | None:
    """The counts in a file's content; None where it is damaged or of another number of classes."""
    counts = (content or {}).get("class_pixels")
    if not isinstance(counts, list) or len(counts) != classes or not all(type(count) is int for count in counts):
        return None
    return counts
