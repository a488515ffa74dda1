"""Which data a run is made on: digests of a split's file list, the same wherever the same data lie.

They cost no more than the names, which a data set that is open knows already, and a look at the size of each file. No
file is read: a mask that was changed to another one of the same size is not noticed.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from segctl.plugin import dataset_info

__all__ = ["brief", "changes", "digest"]

SECONDS = 10.0  # for the sizes of all files of a split
_SLICE = 512  # files that are looked at without a look at the clock
_SLOW = 50e-6  # seconds for the size of one file: beyond, it is the network that one waits for, and threads help
_THREADS = 32
_LENGTH = 16  # hexadecimal digits that are kept


def digest(dataset: Any, options: Mapping[str, Any], *, seconds: float = SECONDS) -> dict[str, Any]:
    """What tells a split from other data.

    Args:
        dataset: An open split. Where it does not say which files it reads (`files`), its samples' names count alone,
            and `options`.
        options: What it was opened with.
        seconds: For looking at sizes; where that does not do, they are left out.

    Returns:
        ``samples``, their number; ``classes``, of the classes and the values that stand for them; ``names``, of the
        samples' names and files, below the data's root, in their order; ``sizes``, of the files' sizes, or None where
        there are no files or the time did not do. All but the number are hexadecimal digests.
    """
    info = dataset_info(dataset)
    offers_files = hasattr(dataset, "files") and hasattr(dataset, "root")
    files = [tuple(dataset.files(index)) for index in range(len(dataset))] if offers_files else []
    made_of = [] if files else sorted(options.items())
    names = ((dataset.name(index), files[index] if files else ()) for index in range(len(dataset)))
    paths = [os.path.join(dataset.root, path) for each in files for path in each]
    sizes = _sizes(paths, time.monotonic() + seconds) if paths else None
    return {
        "samples": len(dataset),
        "classes": _hash([info.classes, info.labels, info.ignore_index]),
        "names": _hash(itertools.chain(made_of, names)),
        "sizes": _hash(sizes) if sizes is not None else None,
    }


def _hash(items: Any) -> str:
    found = hashlib.sha256()
    for item in items:
        found.update(repr(item).encode("utf-8", "surrogateescape") + b"\n")
    return found.hexdigest()[:_LENGTH]


def _sizes(paths: Sequence[str], deadline: float) -> list[int] | None:
    """The size of each file, -1 of one that is not there; None where the time did not do."""
    slices = [paths[start : start + _SLICE] for start in range(0, len(paths), _SLICE)]

    def look(some: Sequence[str]) -> list[int] | None:
        return [_size(path) for path in some] if time.monotonic() < deadline else None

    began = time.monotonic()
    first = look(slices[0])
    if time.monotonic() - began > _SLOW * len(slices[0]):
        with ThreadPoolExecutor(_THREADS) as pool:
            found = [first, *pool.map(look, slices[1:])]
    else:
        found = [first, *map(look, slices[1:])]
    whole = [each for each in found if each is not None]
    return [size for each in whole for size in each] if len(whole) == len(found) else None


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def brief(record: Mapping[str, Any] | None) -> str:
    """A run's data in a few letters: ``train 3f9a2c val 77c21b``. Equal letters: the same data."""
    parts = []
    for split, facts in (record or {}).items():
        if isinstance(facts, Mapping):
            parts.append(f"{split} {_hash([facts.get(key) for key in ('classes', 'names', 'sizes')])[:6]}")
    return " ".join(parts)


def changes(then: Any, now: Mapping[str, Any], run: str) -> tuple[str, ...]:
    """In which way the data differ from those that a run was made on, a sentence for each split that does.

    Args:
        then: Digests by split, as run.json has them; anything else tells nothing.
        now: The same, of the data as they are. Only splits that are in both count.
        run: The run's id, for the sentence.
    """
    if not isinstance(then, Mapping):
        return ()
    return tuple(
        f"The data are not those that {run} was submitted with: {split} {difference}."
        for split, facts in now.items()
        if isinstance(before := then.get(split), Mapping) and (difference := _difference(before, facts))
    )


def _difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if then.get("samples") != now["samples"]:
        return f"has {now['samples']} samples instead of {then.get('samples')}"
    return next(_differing(then, now), "")


def _differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    words = {
        "classes": "has other classes, or other mask values stand for them",
        "names": "has other samples, or in another order",
        "sizes": "has files of another size",
    }
    for key, difference in words.items():
        if then.get(key) and now.get(key) and then[key] != now[key]:
            yield difference
