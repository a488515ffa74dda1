"""What the masks' values mean: as the class file says, or as the masks themselves suggest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segctl.errors import DataError

from ..labels import ColorTable, ValueTable, ranges
from .class_file import ClassFile, Color, read_class_file
from .colors import distinct_palette
from .mask_scan import values_in

__all__ = ["IGNORE_INDEX", "Classes", "decide_classes"]

IGNORE_INDEX = 255  # of the class indices, whatever value the masks store for it
_DEFAULT_FILES = ("classes.yaml", "classes.yml")
_BINARY = ("background", "foreground")
_FEW = 16  # more values than this that reach into the upper half of 0..255 are taken for shades, not for classes


@dataclass(frozen=True)
class Classes:
    """What `Folder` declares, and how it reads masks.

    Attributes:
        labels: The stored value of each class; empty where it is the class index.
        values: For grey and palette masks.
        colors: For RGB masks, where colours were declared.
        notices: What was decided without being asked.
    """

    names: tuple[str, ...]
    palette: tuple[Color, ...]
    labels: tuple[int, ...]
    values: ValueTable
    colors: ColorTable | None = None
    notices: tuple[str, ...] = ()


def decide_classes(
    root: Path, masks: Sequence[str], class_file: str | None, threshold: int | None, ignored: Sequence[int] = ()
) -> Classes:
    """The class file if there is one, else what the masks hold.

    Args:
        root: The data set's folder.
        masks: The masks of the splits train and val, relative to `root`.
        class_file: Its path relative to `root`, or None for the default name.
        threshold: Mask value from which on a pixel is foreground, or None.
        ignored: Mask values that are no class, beside those that the class file ignores.

    Raises:
        DataError: The class file is missing or wrong, or has a class of an ignored value, or the masks do not suggest
        classes.
    """
    path = _class_file(root, class_file)
    declared = read_class_file(path) if path else None
    if threshold is not None:
        return _thresholded(threshold, declared, path, ignored)
    if declared is None:
        return _inferred(root, values_in(root, masks), ignored)
    assert path is not None
    _refuse_ignored_classes(declared, path, ignored)
    if _could_be_binary(declared) and _without(values_in(root, masks), ignored) == (0, 255):
        notice = f"The masks hold only 0 and 255: 255 is {declared.names[1]!r} ({path.name} does not say)."
        return _declared(ClassFile(declared.names, values=(0, 255), ignore=()), ignored, (notice,))
    return _declared(declared, ignored)


def _without(values: Sequence[int], ignored: Sequence[int]) -> tuple[int, ...]:
    return tuple(value for value in values if value not in ignored)


def _refuse_ignored_classes(file: ClassFile, path: Path, ignored: Sequence[int]) -> None:
    for name, value in zip(file.names, file.values or range(len(file.names)), strict=True):
        if value in ignored:
            raise DataError(
                f"The option ignore has the value {value}, which is the class {name!r} in {path}.",
                "Take the class out of the file, or the value out of the option.",
            )


def _class_file(root: Path, given: str | None) -> Path | None:
    if given is not None:
        return root / given
    return next((root / name for name in _DEFAULT_FILES if (root / name).is_file()), None)


def _could_be_binary(file: ClassFile) -> bool:
    """Two bare names: with the usual meaning of 255, black and white masks would silently have one class."""
    return len(file.names) == 2 and file.values is None and file.ignore is None and file.colors is None


def _declared(file: ClassFile, ignored: Sequence[int], notices: tuple[str, ...] = ()) -> Classes:
    values = file.values or tuple(range(len(file.names)))
    ignore = file.ignore
    if ignore is None:
        ignore = () if IGNORE_INDEX in values else (IGNORE_INDEX,)
    colors = None
    if file.colors:
        colors = ColorTable(file.colors, ignored=file.ignored_colors, ignore_index=IGNORE_INDEX)
    return Classes(
        names=file.names,
        palette=file.colors or distinct_palette(file.names),
        labels=_labels(values),
        values=ValueTable.of_labels(values, ignored=(*ignore, *ignored), ignore_index=IGNORE_INDEX),
        colors=colors,
        notices=notices,
    )


def _thresholded(threshold: int, file: ClassFile | None, path: Path | None, ignored: Sequence[int]) -> Classes:
    if file and (len(file.names) != 2 or file.values or file.ignore):
        raise DataError(
            f"With a threshold, {path} can only name two classes.", "Remove values and ignore, or the threshold."
        )
    return Classes(
        names=file.names if file else _BINARY,
        palette=(file and file.colors) or distinct_palette(file.names if file else _BINARY),
        labels=(0, 255),
        values=ValueTable(
            {value: int(value >= threshold) for value in _without(range(256), ignored)},
            ignored=ignored,
            ignore_index=IGNORE_INDEX,
        ),
    )


def _inferred(root: Path, found: tuple[int, ...], ignored: Sequence[int]) -> Classes:
    kept = _without(found, ignored)
    if kept == (0, 255):
        notice = f"The masks hold only 0 and 255: 255 is taken for {_BINARY[1]}. A classes.yaml would name the classes."
        return _declared(ClassFile(_BINARY, values=kept, ignore=()), ignored, (notice,))
    values = _without(kept, (IGNORE_INDEX,))
    left_out = _without(found, values)
    if len(values) < 2:
        beside = f" (ignored: {ranges(left_out)})" if set(left_out) & set(ignored) else ""
        raise DataError(
            f"The masks in {root / 'masks'} hold nothing but {ranges(found)}{beside}, so there are no "
            "two classes to tell apart.",
            "Look at the masks; or name the classes in classes.yaml.",
        )
    if len(values) > _FEW and values[-1] > 127:
        raise DataError(
            f"The masks in {root / 'masks'} hold {len(values)} values between {values[0]} and {values[-1]}, which look "
            "like shades of grey (anti-aliased or once saved as JPEG) rather than classes.",
            "Name the classes and their values in classes.yaml; or, for two classes, say --dataset.threshold 128.",
        )
    beside = f" ({ranges(left_out)} {'is' if len(left_out) == 1 else 'are'} ignored)" if left_out else ""
    notice = (
        f"The classes are the values found in the masks: {ranges(values)}{beside}. A classes.yaml beside images/ "
        "would name them, and spare reading every mask at the start."
    )
    return _declared(ClassFile(tuple(f"class {value}" for value in values), values=values), ignored, (notice,))


def _labels(values: tuple[int, ...]) -> tuple[int, ...]:
    return () if values == tuple(range(len(values))) else values
