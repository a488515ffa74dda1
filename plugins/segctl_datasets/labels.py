"""From the values stored in a mask to class indices, refusing every value that was not declared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from segctl.errors import DataError, listing

__all__ = ["ValueTable"]

_REFUSED = -1


class ValueTable:
    """Which stored value (0 to 255) is which class; all values that it does not name are errors.

    Args:
        classes: Stored value -> class index.
        ignored: Stored values that become `ignore_index`.
        ignore_index: The value that is neither trained on nor counted.
    """

    def __init__(self, classes: Mapping[int, int], *, ignored: Iterable[int] = (), ignore_index: int = 255) -> None:
        table = np.full(256, _REFUSED, np.int16)
        for value in ignored:
            table[value] = ignore_index
        for value, index in classes.items():
            table[value] = index
        self._refused = table == _REFUSED
        self._class_of = np.where(self._refused, 0, table).astype(np.uint8)
        self._unchanged = bool((self._refused | (self._class_of == np.arange(256))).all())

    @classmethod
    def as_stored(cls, num_classes: int, ignore_index: int) -> ValueTable:
        """Stored values are the class indices, or `ignore_index`."""
        return cls({index: index for index in range(num_classes)}, ignored=[ignore_index], ignore_index=ignore_index)

    def to_classes(self, values: np.ndarray, path: Path) -> np.ndarray:
        """(H, W) uint8 stored values -> (H, W) uint8 class indices.

        Raises:
            DataError: `values` holds undeclared values; the message names `path` and them.
        """
        if values.ndim != 2:
            raise DataError(
                f"{path} is an RGB image, but a mask must hold one value for each pixel.",
                "Use the palette or grey masks.",
            )
        refused = self._refused.take(values)
        if refused.any():
            raise self._undeclared(values[refused], values.size, path)
        return values if self._unchanged else self._class_of.take(values)

    def _undeclared(self, found: np.ndarray, pixels: int, path: Path) -> DataError:
        values, counts = np.unique(found, return_counts=True)
        shown = [str(value) for value in values[:8]] + (["others"] if len(values) > 8 else [])
        known = np.flatnonzero(~self._refused)
        return DataError(
            f"{path} holds the value{'s' * (len(values) > 1)} {listing(shown)} on {counts.sum()} of its {pixels} pixels, "
            f"which the data set does not declare.",
            f"Declared are {_ranges(known)}.",
        )


def _ranges(values: np.ndarray) -> str:
    """``"0 to 20 and 255"`` for the values 0, 1, ..., 20, 255."""
    runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    return listing(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
