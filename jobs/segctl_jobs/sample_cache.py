"""All samples of a split, decoded, in one memory-mapped file on the node's own disk (`data.cache`).

It spares a network file system two small files a sample, and the processor their decoding: of a large image a crop
touches but some pages. The file is made once on each node, by whichever process takes the lock, while the others wait.
It gets its name when it is whole; what a killed builder leaves behind is removed by the next one.

    one line of JSON: which data these are    mask, image, mask, image, ...    index    tail: where the index is
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from segctl import registry
from segctl.config.schema import Config
from segctl.errors import ConfigError, DataError, DiskFullError
from segctl.plugin import DatasetInfo, SegmentationDataset
from segctl.runs.files import replacing
from segctl_jobs import watchdog
from segctl_jobs.data import Some, stored_samples
from segctl_jobs.distributed import World

__all__ = ["CachedSamples", "cached", "refuse_uncachable"]

log = logging.getLogger(__name__)

MOST_WORKERS = 16
ESTIMATED_FROM = 16  # samples
POLL_SECONDS = 0.5
LOG_SECONDS = 30.0
ALIGNMENT = 64
_ENTRY = np.dtype([("offset", "<i8"), ("height", "<i4"), ("width", "<i4"), ("mask", "S3")])
_TAIL = struct.Struct("<8sQQ")  # magic, offset of the index, size of the file
_MAGIC = b"segctl1\n"


class CachedSamples:
    """A data set whose samples come out of a cache file. All else is asked of the data set itself."""

    def __init__(self, dataset: SegmentationDataset, file: Path, header: bytes) -> None:
        self._dataset, self._file, self._header = dataset, file, header
        content = _content(file, header)
        if content is None:
            raise DataError(f"The cache {file} is gone, or is another one by now.", "Start the run again.")
        self._bytes, self._index = content

    def __reduce__(self) -> tuple[Any, ...]:
        return CachedSamples, (self._dataset, self._file, self._header)  # a data worker maps the file itself

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "read":  # the data set's own way to a part of a sample
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        mask, end = self._stored_mask(index)
        shape = (*mask.shape, 3)
        return self._bytes[end : end + mask.size * 3].reshape(shape), mask

    def name(self, index: int) -> str:
        return self._dataset.name(index)

    def mask(self, index: int) -> np.ndarray:
        return self._stored_mask(index)[0]

    def _stored_mask(self, index: int) -> tuple[np.ndarray, int]:
        entry = self._index[index]
        dtype = np.dtype(entry["mask"].decode())
        start, pixels = int(entry["offset"]), int(entry["height"]) * int(entry["width"])
        end = start + pixels * dtype.itemsize
        return self._bytes[start:end].view(dtype).reshape(int(entry["height"]), int(entry["width"])), end


def refuse_uncachable(config: Config, dataset: SegmentationDataset) -> None:
    """Raises ConfigError where a data set cannot tell whether a cache is still right."""
    if config.data.cache is None:
        return
    if not all(hasattr(dataset, name) for name in ("fingerprint", "files", "root")):
        raise ConfigError(
            f"data.cache: the data set {config.dataset.name} does not say which files it reads (fingerprint, files), "
            "so that nobody could tell when a cache of it is out of date.",
            "Leave data.cache out.",
        )


def cached(
    dataset: SegmentationDataset, info: DatasetInfo, config: Config, split: str, world: World
) -> SegmentationDataset:
    """`dataset`, or its samples out of the cache where `data.cache` names a folder; every process must call it.

    Raises:
        ConfigError: The data set cannot be cached, or the folder not be used.
        DataError: From the data set.
        DiskFullError: The folder has no room.
    """
    if config.data.cache is None:
        return dataset
    refuse_uncachable(config, dataset)
    folder = _folder(config.data.cache)
    # One process looks at the files, for on a network each look takes time; then all know what to look for.
    (fingerprint, *_) = world.gather(_fingerprint(dataset) if world.is_main else None)
    if fingerprint is None:
        raise DataError(
            f"data.cache: a file of {config.dataset.name} ({split}) cannot be looked at.",
            f"'segctl data check {config.dataset.name}' finds out which.",
        )
    entry = registry.find("datasets", config.dataset.name)
    key = {
        "dataset": f"{entry.qualified} {entry.version}",
        "options": config.dataset.options,
        "data_root": config.data_root,
        "split": split,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    file = folder / f"{entry.name}-{split}-{digest}.samples"
    header = json.dumps({**key, "fingerprint": fingerprint, "samples": len(dataset)}, sort_keys=True).encode() + b"\n"
    try:
        if _content(file, header) is None:
            _build_once(dataset, info, file, header, _workers(world))
    except OSError as error:
        raise ConfigError(f"data.cache: {folder} cannot be used: {error.strerror}.", "Name another folder.") from error
    return CachedSamples(dataset, file, header)


def _folder(setting: str) -> Path:
    text = os.path.expandvars(os.path.expanduser(setting))
    if "$" in text:
        raise ConfigError(f"data.cache: {setting} names a variable that is not set on this node.", "Name a folder.")
    folder = Path(text).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"data.cache: {folder} cannot be made: {error.strerror}.", "Name another folder.") from error
    return folder


def _fingerprint(dataset: Any) -> str | None:
    """Changes with any file of the split; the data set's own one speaks of its masks."""
    masks = dataset.fingerprint()
    if masks is None:
        return None
    digest = hashlib.sha256(masks.encode())
    try:
        for index in range(len(dataset)):
            for path in dataset.files(index):
                file = os.stat(os.path.join(dataset.root, path))
                digest.update(repr((path, file.st_size, file.st_mtime_ns, file.st_ctime_ns)).encode())
            watchdog.beat()
    except OSError:
        return None
    return digest.hexdigest()


def _workers(world: World) -> int:
    """As many as the job has cores on this node, for its other processes wait."""
    cores = torch.get_num_threads() * world.local_size
    return min(MOST_WORKERS, cores) if cores > 1 else 0


def _content(file: Path, header: bytes) -> tuple[np.ndarray, np.ndarray] | None:
    """All bytes, mapped, and the index of a cache file, if it is whole and of these data."""
    try:
        # Private: whoever writes into a sample does not write into the file.
        content = np.memmap(file, np.uint8, mode="c").view(np.ndarray)
    except (FileNotFoundError, ValueError):  # an empty file cannot be mapped
        return None
    if content[: len(header)].tobytes() != header or content.size < len(header) + _TAIL.size:
        return None
    magic, start, whole = _TAIL.unpack(content[-_TAIL.size :])
    if (magic, whole) != (_MAGIC, content.size):
        return None
    return content, content[start : -_TAIL.size].view(_ENTRY)


def _build_once(dataset: SegmentationDataset, info: DatasetInfo, file: Path, header: bytes, workers: int) -> None:
    """Makes the file, or waits until another process has made it."""
    with file.with_suffix(".lock").open("a") as lock:
        _wait_for(lock, file)
        if _content(file, header) is None:
            for leftover in _unfinished(file):  # of a builder that was killed: a living one would hold the lock
                leftover.unlink(missing_ok=True)
            _build(dataset, info, file, header, workers)


def _wait_for(lock: IO[str], file: Path) -> None:
    """Takes the lock; counts as progress as long as the process that has it makes some."""
    seen = 0
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            written = sum(_size(path) for path in _unfinished(file))
            if written != seen:
                seen = written
                watchdog.beat()
            time.sleep(POLL_SECONDS)


def _unfinished(file: Path) -> list[Path]:
    return list(file.parent.glob(f".tmp-{file.name}-*"))


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def _build(dataset: SegmentationDataset, info: DatasetInfo, file: Path, header: bytes, workers: int) -> None:
    needed = _estimate(dataset, info)
    _refuse_without_room(file.parent, needed)
    log.info("making the cache %s of %d samples, about %.1f GiB", file, len(dataset), needed / 2**30)
    began = time.monotonic()
    try:
        with replacing(file) as stream:
            _write(stream, header, len(dataset), stored_samples(dataset, info, range(len(dataset)), workers))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFullError(
            f"data.cache: {file.parent} cannot take all of the {needed / 2**30:.1f} GiB: {error.strerror}.",
            "Name another folder, or leave data.cache out.",
        ) from error
    seconds = time.monotonic() - began
    log.info("the cache took %.0f s, %.0f samples a second", seconds, len(dataset) / seconds)


def _estimate(dataset: SegmentationDataset, info: DatasetInfo) -> int:
    """Bytes, told from a few samples."""
    few = Some(dataset, ESTIMATED_FROM)
    sizes = [image.nbytes + mask.nbytes for _, image, mask in stored_samples(few, info, range(len(few)), 0)]
    return sum(sizes) * len(dataset) // len(few)


def _refuse_without_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFullError(
            f"data.cache: about {needed / 2**30:.1f} GiB are needed in {folder}, {free / 2**30:.1f} GiB are free.",
            "Name another folder, or leave data.cache out.",
        )


def _write(stream: IO[bytes], header: bytes, count: int, samples: Iterator[tuple[int, np.ndarray, np.ndarray]]) -> None:
    stream.write(header)
    index = np.zeros(count, _ENTRY)
    said = time.monotonic()
    for number, image, mask in samples:
        stream.write(bytes(-stream.tell() % ALIGNMENT))
        index[number] = (stream.tell(), *mask.shape, mask.dtype.str[1:].encode())
        stream.write(np.ascontiguousarray(mask).data)
        stream.write(np.ascontiguousarray(image).data)
        watchdog.beat()
        if time.monotonic() - said > LOG_SECONDS:
            said = time.monotonic()
            log.info("%d of %d samples are in the cache", number + 1, count)
    start = stream.tell()
    stream.write(index.tobytes())
    stream.write(_TAIL.pack(_MAGIC, start, stream.tell() + _TAIL.size))
