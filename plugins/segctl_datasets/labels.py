"""From the values stored in a mask to class indices, refusing every value that was not declared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from segctl.errors import DataError, listing

__all__ = ["ColorTable", "ValueTable", "ranges", "undeclared_colors"]

_REFUSED = -1
Color = tuple[int, int, int]


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
        # What is refused becomes a value that nothing declared becomes, so that one search finds it. There is one
        # unless all values are declared.
        free = np.setdiff1d(np.arange(256), table)
        self._mark = int(free[0]) if self._refused.any() else None
        self._class_of = np.where(self._refused, self._mark or 0, table).astype(np.uint8)

    @classmethod
    def of_labels(cls, labels: Iterable[int], *, ignored: Iterable[int] = (), ignore_index: int = 255) -> ValueTable:
        """The stored value of each class is given, in the order of the class indices."""
        classes = {value: index for index, value in enumerate(labels)}
        return cls(classes, ignored=ignored, ignore_index=ignore_index)

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
        # Python's own bytes go through a table more than twice as fast as numpy's arrays do.
        classes = bytearray(values).translate(self._class_of)
        if self._mark is not None and self._mark in classes:
            raise self._undeclared(values[self._refused.take(values)], values.size, path)
        return np.frombuffer(classes, np.uint8).reshape(values.shape)

    def class_of(self) -> dict[int, int]:
        """The class index, or the ignored one, of each stored value that is declared."""
        return {int(value): int(self._class_of[value]) for value in np.flatnonzero(~self._refused)}

    def _undeclared(self, found: np.ndarray, pixels: int, path: Path) -> DataError:
        values, counts = np.unique(found, return_counts=True)
        shown = [str(value) for value in values[:8]] + (["others"] if len(values) > 8 else [])
        known = np.flatnonzero(~self._refused)
        return DataError(
            f"{path} holds the value{'s' * (len(values) > 1)} {listing(shown)} on {counts.sum()} of its {pixels} "
            "pixels, which the data set does not declare.",
            f"Declared are {ranges(known)}.",
        )


class ColorTable:
    """Which colour of an RGB mask is which class; all colours that it does not name are errors.

    Args:
        colors: The colour of each class, in the order of the class indices.
        ignored: Colours that become `ignore_index`.
        ignore_index: The value that is neither trained on nor counted.
    """

    def __init__(self, colors: Sequence[Color], *, ignored: Sequence[Color] = (), ignore_index: int = 255) -> None:
        codes = _codes(np.array([*colors, *ignored], np.uint8))
        indices = np.array([*range(len(colors)), *[ignore_index] * len(ignored)], np.uint8)
        order = np.argsort(codes)
        self._codes, self._indices = codes[order], indices[order]

    def to_classes(self, colors: np.ndarray, path: Path) -> np.ndarray:
        """(H, W, 3) uint8 colours -> (H, W) uint8 class indices.

        Raises:
            DataError: A colour is not declared; the message names `path` and the colours.
        """
        codes = _codes(colors)
        place = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        refused = self._codes[place] != codes
        if refused.any():
            found = np.unique(codes[refused])
            shown = [f"#{code:06x}" for code in found[:8]] + ([f"{len(found) - 8} others"] if len(found) > 8 else [])
            raise DataError(
                f"{path} holds the colour{'s' * (len(found) > 1)} {listing(shown)} on {refused.sum()} of its "
                f"{refused.size} pixels, which the data set does not declare.",
                f"Declared are {listing(f'#{code:06x}' for code in self._codes)}.",
            )
        return self._indices[place]

    def class_of(self) -> dict[int, int]:
        """The class index, or the ignored one, of each declared colour, 0xrrggbb."""
        return dict(zip(self._codes.tolist(), self._indices.tolist(), strict=True))


def _codes(colors: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 -> (...) int32, 0xrrggbb."""
    red, green, blue = (colors[..., channel].astype(np.int32) for channel in range(3))
    return (red << 16) | (green << 8) | blue


def undeclared_colors(path: Path, colors: np.ndarray) -> DataError:
    """What to say of an (H, W, 3) mask when no colours are declared; shows the way with the colours it holds."""
    found = np.unique(_codes(colors))
    shown = ", ".join(f'"#{code:06x}"' for code in found[:6])
    some = f"6 of the {len(found)}" if len(found) > 6 else "the"
    return DataError(
        f"{path} is an RGB image, and nothing says which colour is which class.",
        "Write a file classes.yaml beside images/ with the keys names, a list of classes, and colors, a list of their "
        f"colours, such as [{shown}], {some} colours of this mask.",
    )


def ranges(values: Sequence[int] | np.ndarray) -> str:
    """``"0 to 20 and 255"`` for the ascending values 0, 1, ..., 20, 255."""
    runs = np.split(np.asarray(values), np.flatnonzero(np.diff(values) > 1) + 1)
    return listing(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
