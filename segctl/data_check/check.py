"""`segctl data check`: reads every image and mask of a data set and says all that is wrong with it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from segctl import data_record, registry
from segctl.config.load import resolve_dataset
from segctl.config.schema import Plugin
from segctl.data_check import classes
from segctl.data_check.across import Samples, lone_files, repeated, shared
from segctl.data_check.findings import Case, Finding, gathered
from segctl.data_check.pool import OpenSplit, look_through
from segctl.data_check.sample import Tally
from segctl.errors import ConfigError, DataError, did_you_mean, listing
from segctl.launch import machine
from segctl.plugin import DatasetInfo, dataset_info, tolerating_faults

__all__ = ["ClassCount", "DataReport", "SplitReport", "check_data"]


# Kinds of faults that a refusal of the whole split may name again.
_NAMES_THE_FILE = {"missing-image", "missing-mask", "refused-mask", "unreadable-mask", "listed-twice"}

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class ClassCount:
    """A class in one split: pixels in all, and images it occurs in."""

    pixels: int
    images: int


@dataclass(frozen=True)
class SplitReport:
    """What a split holds.

    Attributes:
        name: The split's.
        samples: How many it lists.
        published: How many it should, or None where nobody says.
        images: Images that could be read; `masks` likewise.
        smallest: Width and height of the smallest image by pixels; None where there is none. `largest` likewise.
        mean: Of red, green and blue over all pixels of all images, from 0 to 1; None where there is no image.
        deviation: The standard deviation, likewise.
        classes: By class name, in the order of the classes.
        ignored: Ignored pixels.
        digest: What tells the split from other data; see `segctl.data_record.digest`.
    """

    name: str
    samples: int
    published: int | None
    images: int
    masks: int
    smallest: tuple[int, int] | None
    largest: tuple[int, int] | None
    mean: Channels | None
    deviation: Channels | None
    classes: Mapping[str, ClassCount]
    ignored: int
    digest: Mapping[str, Any]


@dataclass(frozen=True)
class DataReport:
    """What a data set holds, and what is wrong with it.

    Attributes:
        dataset: The plugin's name.
        root: The folder that it reads; empty where the data are made on the fly.
        splits: Those that could be opened.
        findings: What is wrong, by kind, the worst first.
    """

    dataset: str
    root: str
    splits: tuple[SplitReport, ...]
    findings: tuple[Finding, ...]

    def count(self, level: str) -> int:
        """How many faults there are of a level: ``error``, ``warning`` or ``note``."""
        return sum(finding.count for finding in self.findings if finding.level == level)


def check_data(
    dataset: str,
    *,
    splits: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    data_root: str | Path | None = None,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> DataReport:
    """Reads every pair of a data set, as training would, and gathers all that is wrong instead of the first fault.

    The result does not depend on the number of workers.

    Args:
        dataset: The plugin's name.
        splits: Which ones; default: all that it has.
        options: Of the plugin; strings are read as on the command line.
        data_root: Folder of the data sets; default: ``$SEGCTL_DATA``, else ``data``.
        workers: Processes; default: one for each core.
        on_progress: Called with the number of samples done and of all, at first with none done.

    Raises:
        DataError: The data set is not there at all, or there is no such split.
        SegctlError: The plugin cannot be found, or an option is not acceptable.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers: {workers} is not a number of processes.", "Give 1 or more.")
    entry = registry.find("datasets", dataset)
    factory = entry.load()
    flags = {f"dataset.{name}": value for name, value in (options or {}).items()}
    plugin = resolve_dataset({"dataset": dataset, **flags})
    data_root = data_root or os.environ.get("SEGCTL_DATA") or "data"
    folder = registry.dataset_root(entry, factory, data_root)
    opened, info, cases = _open_all(plugin, data_root, tuple(splits), dataset_info(factory))
    looked, found = _look(opened, workers or machine.read().cores, on_progress or (lambda done, total: None))
    cases += found
    samples = [each for each, _, _ in looked]
    cases += _across(samples, info, tuple(splits))
    if not splits:
        root = next((Path(split.dataset.root) for split in opened if hasattr(split.dataset, "root")), folder)
        cases += _lone_files(root, samples, cases)
    cases += [*classes.flip_faults(info), *classes.unpaired_sides(info)]
    reports = tuple(
        _report(split, tally, sizes, data_record.digest(split.dataset, plugin.options))
        for split, (_, tally, sizes) in zip(opened, looked, strict=True)
    )
    for report in reports:
        cases += _about_split(report, info)
    return DataReport(entry.name, str(folder) if info.layout else "", reports, gathered(_without_echoes(cases)))


def _open_all(
    plugin: Plugin, data_root: str | Path, asked: Sequence[str], declared: DatasetInfo
) -> tuple[list[OpenSplit], DatasetInfo, list[Case]]:
    """The splits that can be opened somehow, the data set's facts, and what is wrong with the splits as such."""
    unlabelled = declared.unlabelled_splits or {}
    known = [*(declared.splits or ()), *unlabelled]
    for split in asked:
        if split not in known:
            raise DataError(
                f"{plugin.name} has no split {split!r}; it has {listing(known)}.", did_you_mean(split, known)
            )
    main = (declared.train_split, declared.eval_split)
    info = declared
    cases: list[Case] = []
    opened: list[OpenSplit] = []
    notices: list[str] = []
    todo = list(asked or known)
    while todo:
        split = todo.pop(0)
        dataset, refusal = _open(plugin, data_root, split)
        if dataset is not None and len(dataset) == 0:
            refusal, dataset = DataError("It is empty."), None
        if refusal is not None and (dataset is not None or split in asked or split not in unlabelled):
            needed = split in main or split in asked or dataset is not None
            cases.append(Case("refused" if needed else "not-here", split, "", str(refusal)))
        if dataset is None:
            continue
        found = dataset_info(dataset)
        if not opened:  # what only the data say, such as which splits a person's folder has
            info = found
            todo = [each for each in todo if asked or each in (found.splits or ()) or each in unlabelled]
        opened.append(OpenSplit(split, dataset, found))
        notices += _notices(dataset, split)
    return opened, info, [*cases, *(Case("notice", "", "", notice) for notice in dict.fromkeys(notices))]


def _open(plugin: Plugin, data_root: str | Path, split: str) -> tuple[Any, DataError | None]:
    """The split, although files may be missing; and why training would refuse it."""
    try:
        return registry.open_dataset(plugin, data_root, split), None
    except DataError as refusal:
        with tolerating_faults():
            try:
                return registry.open_dataset(plugin, data_root, split), refusal
            except DataError:
                return None, refusal


def _notices(dataset: Any, split: str) -> list[str]:
    counted = f"{split} has {len(dataset)} sample"  # is told as a finding of its own
    return [str(each) for each in getattr(dataset, "notices", ()) if not str(each).startswith(counted)]


Looked = tuple[Samples, Tally, list[tuple[int, int]]]


def _look(
    opened: Sequence[OpenSplit], workers: int, on_progress: Callable[[int, int], None]
) -> tuple[list[Looked], list[Case]]:
    """For each split its samples, its sums, and the sizes of its smallest and largest image."""
    looked: list[Looked] = [(Samples(split.name), Tally(len(split.info.classes)), []) for split in opened]
    cases: list[Case] = []
    total, done = sum(len(split.dataset) for split in opened), 0
    on_progress(done, total)
    for chunk in look_through(opened, workers):
        samples, tally, sizes = looked[chunk.split]
        samples.add(opened[chunk.split].dataset, chunk.start, chunk.seen)
        tally.add(chunk.tally)
        cases += [Case(kind, samples.name, file, what) for seen in chunk.seen for kind, file, what in seen.faults]
        sizes[:] = _extremes([*sizes, *(seen.size for seen in chunk.seen if seen.size)])
        done += len(chunk.seen)
        on_progress(done, total)
    return looked, cases


def _extremes(sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return [by_area[0], by_area[-1]] if by_area else []


def _across(samples: Sequence[Samples], info: DatasetInfo, asked: Sequence[str]) -> Iterator[Case]:
    for each in samples:
        yield from repeated(each)
    for one, other in itertools.combinations(samples, 2):
        both = one.name in asked and other.name in asked
        yield from shared(one, other, trained=info.train_split, evaluated=info.eval_split, asked=both)


def _lone_files(root: Path, samples: Sequence[Samples], known: Sequence[Case]) -> list[Case]:
    refusals = [case for case in known if case.kind in ("refused", "not-here")]
    whole = {case.split for case in refusals} <= {each.name for each in samples}
    lone = list(lone_files(root, samples, whole=whole))
    refused = any(_names(refusal, case.file) for refusal in refusals for case in lone)
    return [replace(case, kind="refused-mask") if refused and case.kind == "lone-mask" else case for case in lone]


def _names(refusal: Case, file: str) -> bool:
    return f"{os.sep}{file}" in refusal.what


def _about_split(report: SplitReport, info: DatasetInfo) -> Iterator[Case]:
    if report.published is not None and report.published != report.samples:
        kind = "incomplete" if report.samples < report.published else "count"
        plural = "s" * (report.samples != 1)
        what = f"has {report.samples} sample{plural} here, {report.published} are published"
        yield Case(kind, report.name, "", what)
    if report.masks:
        yield from classes.absent(info, report.name, [count.images for count in report.classes.values()])


def _without_echoes(cases: Sequence[Case]) -> Iterator[Case]:
    """Leaves out refusals of a file that has an error of its own: who opens a data set names the first of these."""
    own = {case.file for case in cases if case.file and case.kind in _NAMES_THE_FILE}
    said: set[str] = set()
    for case in cases:
        if case.kind != "refused":
            yield case
        elif case.what not in said and not any(_names(case, file) for file in own):
            said.add(case.what)  # of a data set as a whole each split says the same
            yield case


def _report(split: OpenSplit, tally: Tally, sizes: Sequence[tuple[int, int]], digest: Mapping[str, Any]) -> SplitReport:
    mean, deviation = _mean_and_deviation(tally.levels)
    counts = zip(tally.class_pixels.tolist(), tally.class_images.tolist(), strict=True)
    return SplitReport(
        name=split.name,
        samples=len(split.dataset),
        published={**(split.info.splits or {}), **(split.info.unlabelled_splits or {})}.get(split.name),
        images=tally.images,
        masks=tally.masks,
        smallest=sizes[0] if sizes else None,
        largest=sizes[-1] if sizes else None,
        mean=mean,
        deviation=deviation,
        classes={name: ClassCount(*each) for name, each in zip(split.info.classes, counts, strict=True)},
        ignored=tally.ignored,
        digest=digest,
    )


def _mean_and_deviation(levels: np.ndarray) -> tuple[Channels | None, Channels | None]:
    """Of each channel over all pixels, from 0 to 1, of (3, 256) histograms."""
    pixels = int(levels[0].sum())
    if not pixels:
        return None, None
    values = np.arange(256) / 255.0
    mean = (levels / pixels) @ values
    variance = (levels / pixels) @ values**2 - mean**2
    red, green, blue = mean.tolist()
    reds, greens, blues = np.sqrt(np.maximum(variance, 0)).tolist()
    return (red, green, blue), (reds, greens, blues)
