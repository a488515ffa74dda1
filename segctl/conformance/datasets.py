"""Tries a data set on the contract: its declared facts, and what it gives for an index.

Imports no torch: neither do data sets.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from segctl.conformance.contract import Factory, signature_steps
from segctl.conformance.report import BreachError, Check, SkipError, Step, describe_exception, run_steps
from segctl.errors import DataError, did_you_mean, listing
from segctl.plugin import DatasetInfo, dataset_info


def check_dataset(
    factory: Factory,
    root: str | os.PathLike[str],
    split: str | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    samples: int = 6,
) -> tuple[Check, ...]:
    """Tries a data set class on everything that segctl relies on.

    Args:
        factory: ``(root, split, *, options) -> data set``, as an entry point of ``segctl.datasets`` names it.
        root: The folder that its `layout` is relative to. Where the data are missing, what reads them is skipped.
        split: The split to try; by default both the one for training and the one for evaluation.
        options: Options to open it with instead of its defaults.
        samples: Number of samples to read of each split, spread evenly over it.

    Returns:
        One result per check, in the order in which they ran; one that builds on a check that did not pass is skipped.
    """
    return run_steps(_DatasetChecks(factory, Path(root), split, dict(options or {}), samples).steps())


class _DatasetChecks:
    def __init__(self, factory: Factory, root: Path, split: str | None, options: dict[str, Any], samples: int) -> None:
        self.factory = factory
        self.root = root
        self.split = split
        self.options = options
        self.samples = samples
        self.info = DatasetInfo((), ())
        self.datasets: dict[str, Any] = {}

    def steps(self) -> Iterator[Step]:
        yield from signature_steps(self.factory, "dataset")
        yield Step("declares", self.declares, gate=True)
        yield Step("imports without torch", self.imports_without_torch)
        declared = self.info
        if declared.classes:  # else the data say them
            yield Step("facts", self.facts)
            yield Step("flip pairs", self.flip_pairs)
        yield Step("opens", self.opens, gate=True)
        if not declared.classes or self.info != declared:
            yield Step("facts once open", self.facts_once_open)
            yield Step("flip pairs once open", self.flip_pairs)
        yield Step("unknown split", self.unknown_split)
        yield Step("names", self.names)
        yield Step("index range", self.index_range)
        yield Step("items", self.items, gate=True)
        yield Step("mask values", self.mask_values)
        yield Step("repeatable", self.repeatable, gate=True)
        yield Step("shortcuts", self.shortcuts)
        yield Step("own arrays", self.own_arrays)
        yield Step("workers", self.workers)

    def imports_without_torch(self) -> None:
        module, name = self.factory.__module__, getattr(self.factory, "__name__", "")
        if module == "__main__":
            raise SkipError("it is defined in __main__, which cannot be imported a second time")
        code = (
            "import sys; sys.modules['torch'] = sys.modules['torchvision'] = None; "
            f"from importlib import import_module; from segctl.plugin import dataset_info; "
            f"plugin = getattr(import_module({module!r}), {name!r}, None); plugin and dataset_info(plugin)"
        )
        # sys.path, so that what can be imported here can be imported there, however it came to be importable.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
            raise BreachError(f"{module} cannot be imported where torch is not: {last}")

    def facts(self) -> str:
        if not self.info.licence.strip():
            raise BreachError("licence is not declared; users must know under which terms the data may be used")
        return self.facts_once_open()

    def facts_once_open(self) -> str:
        problems = [*_class_problems(self.info), *_split_problems(self.info)]
        if problems:
            raise BreachError("; ".join(problems))
        return f"{len(self.info.classes)} classes, splits {listing(self.info.splits or ())}"

    def flip_pairs(self) -> str | None:
        count, members = len(self.info.classes), [index for pair in self.info.flip_pairs for index in pair]
        outside = [index for index in members if not 0 <= index < count]
        if outside:
            raise BreachError(f"flip_pairs names class {outside[0]}, but classes are 0 to {count - 1}")
        twice = {index for index in members if members.count(index) > 1}
        if twice:
            raise BreachError(f"flip_pairs names class {min(twice)} twice; each class changes places with one other")
        return f"{len(self.info.flip_pairs)} pairs" if members else None

    def declares(self) -> str:
        self.info = dataset_info(self.factory)
        return f"reads {listing(self.info.layout)}" if self.info.layout else "names no files"

    def opens(self) -> str:
        missing = [path for path in self.info.layout if not (self.root / path).exists()]
        if missing:
            raise SkipError(f"the data are not on disk: {self.root} lacks {listing(missing)}")
        wanted = [self.split] if self.split else dict.fromkeys((self.info.train_split, self.info.eval_split))
        lacking = [reason for split in wanted if (reason := self.try_to_open(split))]
        if not self.datasets:
            raise SkipError("; ".join(lacking))
        self.info = dataset_info(next(iter(self.datasets.values())))
        empty = [split for split, dataset in self.datasets.items() if len(dataset) == 0]
        if empty:
            raise BreachError(f"the split {listing(empty)} is empty")
        return "; ".join([f"{split}: {len(dataset)} samples" for split, dataset in self.datasets.items()] + lacking)

    def try_to_open(self, split: str) -> str | None:
        try:
            self.datasets[split] = self.open(split)
        except DataError as error:  # of what is on disk, not of the plugin
            return f"{split} is not on disk: {error}"
        return None

    def open(self, split: str) -> Any:
        return self.factory(self.root, split, **self.options)

    def unknown_split(self) -> None:
        try:
            self.open("no_such_split")
        except Exception:
            return
        raise BreachError("a split that it does not have, 'no_such_split', is opened without an error")

    def items(self) -> str:
        sizes = []
        for dataset, index, where in self.chosen():
            item = dataset[index]
            if not isinstance(item, tuple) or len(item) != 2:
                raise BreachError(f"{where} is not a tuple (image, mask), but {_described(item)}")
            _require_image(item[0], where)
            _require_mask(item[1], item[0], where)
            sizes.append(item[0].shape[:2])
        return f"{len(sizes)} samples of {min(sizes)[0]}x{min(sizes)[1]} to {max(sizes)[0]}x{max(sizes)[1]}"

    def mask_values(self) -> None:
        count, ignored = len(self.info.classes), self.info.ignore_index
        for dataset, index, where in self.chosen():
            values = np.unique(dataset[index][1]).tolist()
            outside = [value for value in values if not 0 <= value < count and value != ignored]
            if outside:
                raise BreachError(
                    f"the mask of {where} holds {listing(map(str, outside[:5]))}, "
                    f"but declared are the classes 0 to {count - 1} and {ignored} (ignored)"
                )

    def repeatable(self) -> None:
        for split, dataset in self.datasets.items():
            again = self.open(split)
            for index in self.indices(dataset):
                first = dataset[index]
                if not _same(first, dataset[index]):
                    raise BreachError(f"sample {index} of {split} is another one when it is read again")
                if not _same(first, again[index]):
                    raise BreachError(f"sample {index} of {split} is another one when the data set is opened again")

    def shortcuts(self) -> str | None:
        """The optional methods must say what the samples say, and what can be done."""
        optional = ("mask", "fingerprint", "submission_path")
        offered = [name for name in optional if any(hasattr(d, name) for d in self.datasets.values())]
        if "mask" in offered:
            for dataset, index, where in self.chosen():
                if not np.array_equal(dataset.mask(index), dataset[index][1]):
                    raise BreachError(f"mask({index}) is not the mask of {where}")
        if "fingerprint" in offered:
            for split, dataset in self.datasets.items():
                first, again = dataset.fingerprint(), self.open(split).fingerprint()
                if not isinstance(first, str | None) or first != again:
                    raise BreachError(f"fingerprint() of {split} is {first!r}, then {again!r}; the data are the same")
        if "submission_path" in offered:
            for split, dataset in self.datasets.items():
                paths = [dataset.submission_path(index) for index in range(len(dataset))]
                wrong = [path for path in paths if _leads_outside(path) or paths.count(path) > 1]
                if wrong:
                    raise BreachError(f"submission_path of {split} gives {wrong[0]!r}, which is no path of one file")
        return f"it has {listing(offered)}" if offered else None

    def own_arrays(self) -> None:
        """Who gets a sample may change it in place; a data set that keeps the array would give the changed one next."""
        for dataset, index, where in self.chosen():
            image, mask = dataset[index]
            before = image.copy(), mask.copy()
            for array in (image, mask):
                if array.flags.writeable:
                    array[...] = 1 - array % 2
            if not _same(before, dataset[index]):
                raise BreachError(f"{where} changes when the arrays it gave before are written to; give out a copy")

    def names(self) -> None:
        for split, dataset in self.datasets.items():
            seen: dict[str, int] = {}
            for index in range(len(dataset)):
                name = dataset.name(index)
                reason = _unsafe(name)
                if reason:
                    raise BreachError(f"the name of sample {index} of {split}, {name!r}, cannot be a file's: {reason}")
                other = seen.setdefault(name.casefold(), index)
                if other != index:
                    raise BreachError(f"samples {other} and {index} of {split} have one name, {name!r}")

    def index_range(self) -> None:
        for split, dataset in self.datasets.items():
            for index in (len(dataset), len(dataset) + 100):
                try:
                    dataset[index]
                except IndexError:
                    continue
                except Exception as error:
                    raise BreachError(
                        f"index {index} of {split}: {describe_exception(error)} instead of an IndexError"
                    ) from error
                raise BreachError(
                    f"index {index} of {split} gives a sample, but there are {len(dataset)}; raise IndexError"
                )

    def workers(self) -> None:
        """Data workers get the data set pickled where processes are spawned."""
        for split, dataset in self.datasets.items():
            try:
                twin = pickle.loads(pickle.dumps(dataset))
            except Exception as error:
                raise BreachError(f"it cannot be sent to a data worker: {describe_exception(error)}") from error
            if not _same(dataset[0], twin[0]):
                raise BreachError(f"sample 0 of {split} is another one in a data worker")

    def chosen(self) -> Iterator[tuple[Any, int, str]]:
        """The samples to read: data set, index, and how to call it in a message."""
        for split, dataset in self.datasets.items():
            for index in self.indices(dataset):
                yield dataset, index, f"sample {index} of {split}"

    def indices(self, dataset: Any) -> list[int]:
        spread = np.linspace(0, len(dataset) - 1, min(self.samples, len(dataset)))
        return sorted({round(float(index)) for index in spread})


def _class_problems(info: DatasetInfo) -> Iterator[str]:
    count = len(info.classes)
    if not all(isinstance(name, str) and name.strip() for name in info.classes) or not count:
        yield "classes must be names, one for each class"
    elif len(set(info.classes)) < count:
        yield f"classes names {listing(sorted({name for name in info.classes if info.classes.count(name) > 1}))} twice"
    if len(info.palette) != count:
        yield f"palette has {len(info.palette)} colours for {count} classes"
    for color in info.palette:
        if len(color) != 3 or not all(isinstance(part, int) and 0 <= part <= 255 for part in color):
            yield f"palette holds {color}, which is not red, green and blue from 0 to 255"
            break
    if 0 <= info.ignore_index < count:
        yield f"ignore_index {info.ignore_index} is also a class, {info.classes[info.ignore_index]!r}"
    if info.labels and (len(info.labels) != count or len(set(info.labels)) != count):
        yield f"labels must be {count} different values, one for each class, or none"


def _split_problems(info: DatasetInfo) -> Iterator[str]:
    splits = info.splits or {}
    if not splits:
        yield "splits is empty"
    if both := set(splits).intersection(info.unlabelled_splits or ()):
        yield f"{listing(sorted(both))} is named among both splits and unlabelled_splits"
    for fact in ("train_split", "eval_split"):
        name = getattr(info, fact)
        if splits and name not in splits:
            yield f"{fact} {name!r} is not one of the splits {listing(splits)}. {did_you_mean(name, splits)}".strip()


def _require_image(image: Any, where: str) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise BreachError(f"the image of {where} is {_described(image)}, not a numpy array of shape (H, W, 3), uint8")


def _require_mask(mask: Any, image: np.ndarray, where: str) -> None:
    if not isinstance(mask, np.ndarray) or not np.issubdtype(mask.dtype, np.integer) or mask.ndim != 2:
        raise BreachError(f"the mask of {where} is {_described(mask)}, not a numpy array of shape (H, W) of integers")
    if mask.shape != image.shape[:2]:
        raise BreachError(f"the mask of {where} has the shape {mask.shape}, its image {image.shape[:2]}")


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"{type(value).__name__} of shape {tuple(shape)}, {value.dtype}"


def _same(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def _leads_outside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return not parts or parts[0] == "/" or ".." in parts


def _unsafe(name: Any) -> str | None:
    """Why a name cannot be a file's on every system, or None."""
    if not isinstance(name, str):
        return f"it is {type(name).__name__}, not a string"
    if not name:
        return "it is empty"
    bad = sorted({character for character in name if character in '/\\:*?"<>|' or not character.isprintable()})
    if bad:
        return f"it contains {' '.join(map(repr, bad))}"
    if name != name.strip(" ") or name.startswith(".") or name.endswith("."):
        return "it begins or ends with a dot or a space"
    return "it is too long" if len(name.encode()) > 200 else None
