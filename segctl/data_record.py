"""Which data a run is made on: digests of a split's file list, the same wherever the same data lie.

They are made of the names, which a data set that is open knows already, and of the sizes of the files: of all of them
in a split of up to `SIZED` samples, in a larger one of that many samples at most, spread evenly. So submitting stays
quick where each size is a question to a file server, and the digest does not depend on how busy that is. No file is
read. What is not noticed: a mask that was changed to another one of the same size, or, in a large split, whose size was
not asked for.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

__all__ = ["brief", "changes", "digest", "letters"]

SIZED = 25_000  # samples: more than any split has of the data sets that come with segctl, but for COCO's and LIP's
_THREADS = 32  # they wait for a file server; on a local disk they cost nothing
_SLICE = 512  # files
_LENGTH = 16  # hexadecimal digits that are kept


def digest(dataset: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """What tells a split from other data.

    Args:
        dataset: An open split. Where it does not say which files it reads (`files`), its samples' names count alone,
            and `options`.
        options: What it was opened with.

    Returns:
        ``samples``, their number; ``classes``, of the classes and the values that stand for them; ``names``, of the
        samples' names and files, below the data's root, in their order; ``sizes``, of the files' sizes, or None where
        there are no files. All but the number are hexadecimal digests.
    """
    from segctl.plugin import dataset_info

    info = dataset_info(dataset)
    offers_files = hasattr(dataset, "files") and hasattr(dataset, "root")
    files = [tuple(dataset.files(index)) for index in range(len(dataset))] if offers_files else []
    made_of = [] if files else sorted(options.items())
    names = ((dataset.name(index), files[index] if files else ()) for index in range(len(dataset)))
    sized = files[:: -(-len(files) // SIZED) or 1]
    return {
        "samples": len(dataset),
        "classes": _hash([info.classes, info.labels, info.ignore_index]),
        "names": _hash(itertools.chain(made_of, names)),
        "sizes": _hash(_sizes([os.path.join(dataset.root, path) for each in sized for path in each]))
        if files
        else None,
    }


def _hash(items: Iterable[object]) -> str:
    found = hashlib.sha256()
    for item in items:
        found.update(repr(item).encode("utf-8", "surrogateescape") + b"\n")
    return found.hexdigest()[:_LENGTH]


def _sizes(paths: Sequence[str]) -> Iterator[int]:
    """The size of each file, -1 of one that is not there."""
    from concurrent.futures import ThreadPoolExecutor

    slices = [paths[start : start + _SLICE] for start in range(0, len(paths), _SLICE)]
    with ThreadPoolExecutor(_THREADS) as pool:
        for sizes in pool.map(lambda some: [_size(path) for path in some], slices):
            yield from sizes


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def letters(facts: Mapping[str, Any]) -> str:
    """A split's digest in a few letters; equal ones: the same data."""
    return _hash([facts.get(key) for key in ("classes", "names", "sizes")])[:6]


def brief(record: Mapping[str, Any] | None) -> str:
    """A run's data in a few letters: ``train 3f9a2c val 77c21b``."""
    return " ".join(
        f"{split} {letters(facts)}" for split, facts in (record or {}).items() if isinstance(facts, Mapping)
    )


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
    """The first of the differences that says most; what only one of the two tells is none."""
    words = {
        "samples": f"has {now['samples']} samples instead of {then.get('samples')}",
        "classes": "has other classes, or other mask values stand for them",
        "names": "has other samples, or in another order",
        "sizes": "has files of another size",
    }
    differing = (key for key in words if then.get(key) is not None and now[key] is not None and then[key] != now[key])
    return words.get(next(differing, ""), "")
