"""`segctl data prepare`: makes, once, what a data set does not read straight from its archives."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segctl import registry
from segctl.errors import DataError, PluginError, SegctlError

__all__ = ["Prepared", "prepare_data"]


@dataclass(frozen=True)
class Prepared:
    """A data set that is ready to be read.

    Attributes:
        dataset: The plugin's name.
        root: Its folder; None where the data are made on the fly.
        steps: How many steps were gone through; 0 where there was nothing to do.
    """

    dataset: str
    root: Path | None
    steps: int


def prepare_data(
    dataset: str, *, data_root: str | Path | None = None, on_progress: Callable[[int, int], None] | None = None
) -> Prepared:
    """Makes what a data set needs beside the files of its archives, such as COCO's masks.

    `segctl download` does so by itself. What was made before an interruption is kept.

    Args:
        dataset: The plugin's name.
        data_root: Folder of the data sets; default: ``$SEGCTL_DATA``, else ``data``.
        on_progress: Called with the number of steps done and of all, at first with none done.

    Raises:
        DataError: The data set is not there or not all of it, its files are damaged, or a folder cannot be written.
        PluginError: The plugin cannot be found or imported, or fails.
    """
    entry = registry.find("datasets", dataset)
    factory = entry.load()
    data_root = Path(data_root or os.environ.get("SEGCTL_DATA") or "data")
    steps = 0

    def count(done: int, total: int) -> None:
        nonlocal steps
        if on_progress is not None:
            if not steps:
                on_progress(0, total)
            on_progress(done, total)
        steps += 1

    if hasattr(factory, "prepare"):
        _prepare(entry, factory, _begun(entry, factory, data_root), count)
    root = registry.dataset_root(entry, factory, data_root)
    return Prepared(entry.name, root if getattr(factory, "layout", ()) else None, steps)


def _prepare(entry: registry.PluginEntry, factory: Any, root: Path, on_progress: Callable[[int, int], None]) -> None:
    try:
        factory.prepare(root, on_progress)
    except SegctlError:
        raise
    except OSError as error:
        raise DataError(
            f"{error.filename or root} cannot be written: {error.strerror or error}.",
            "Free some space, or copy the data to where you may write.",
        ) from error
    except Exception as error:  # a stranger's code
        why = f"{type(error).__name__}: {error}"
        raise PluginError(f"Data set {entry.name!r} fails to prepare its files: {why}.") from error


def _begun(entry: registry.PluginEntry, factory: Any, data_root: Path) -> Path:
    """The data set's folder, although of what `layout` names some may be still to be made."""
    try:
        return registry.dataset_root(entry, factory, data_root)
    except DataError:
        own = registry.dataset_home(entry, factory, data_root)
        if not own.is_dir():
            raise
        return own
