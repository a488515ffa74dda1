"""Which values a folder's masks hold, for data whose classes nobody has written down."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from segctl.errors import DataError
from segctl.plugin import tolerates_faults

from ..labels import undeclared_colors
from ..reading import read_mask

__all__ = ["values_in"]

_THREADS = 8


def values_in(root: Path, masks: Sequence[str]) -> tuple[int, ...]:
    """All values that occur in the masks, ascending. Every mask is decoded, but only once while no file changes.

    Args:
        root: The data set's folder.
        masks: Paths of the masks below it.

    Raises:
        DataError: A mask cannot be read or is an RGB image; the first in the order of `masks`. Within
        `tolerating_faults` such a mask is left out.
    """
    return _scan(str(root), tuple((mask, *_signature(root / mask)) for mask in masks), tolerates_faults())


def _signature(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return 0, 0  # reading it will say what is wrong
    return stat.st_mtime_ns, stat.st_size


@functools.lru_cache(maxsize=4)
def _scan(root: str, masks: tuple[tuple[str, int, int], ...], leave_out: bool) -> tuple[int, ...]:
    present = np.zeros(256, bool)

    def look(mask: tuple[str, int, int]) -> np.ndarray:
        with contextlib.suppress(DataError) if leave_out else contextlib.nullcontext():
            return _values(Path(root, mask[0]))
        return np.zeros(256, bool)

    # Decoding releases the interpreter's lock, so threads do.
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        for found in pool.map(look, masks):
            present |= found
    return tuple(int(value) for value in np.flatnonzero(present))


def _values(path: Path) -> np.ndarray:
    """(256,) bool: which values occur."""
    values = read_mask(path)
    if values.ndim == 3:
        raise undeclared_colors(path, values)
    present = np.zeros(256, bool)
    present[values] = True
    return present
