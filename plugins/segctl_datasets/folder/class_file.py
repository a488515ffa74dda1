"""``classes.yaml``: the classes of a person's own data, in four keys.

    names: [background, road, car]            # or {0: background, 7: road, 8: car}: the mask's value of each class
    values: [0, 7, 8]                         # the same beside a list of names; default 0, 1, 2, ...
    colors: ["#000000", "#804080", "#00008e"] # for display, and what the classes look like in RGB masks
    ignore: 255                               # value(s), or "#rrggbb" in RGB masks, that are not trained on

Only `names` is required. The file is read as plain text scalars (no YAML types), so a class may be called ``yes`` or
``1e3``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from segctl.errors import DataError, did_you_mean, listing

__all__ = ["ClassFile", "read_class_file"]

_KEYS = ("names", "values", "colors", "ignore")
_EXAMPLE = "Such a file may read: names: [background, road, car]"
_COLOR = re.compile(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")
Color = tuple[int, int, int]


@dataclass(frozen=True)
class ClassFile:
    """What a class file says.

    Attributes:
        names: At least two.
        values: The mask's value of each class, or None where the file does not say.
        colors: A colour for each class, or None.
        ignore: Ignored values, or None where the file does not say.
        ignored_colors: Ignored colours.
    """

    names: tuple[str, ...]
    values: tuple[int, ...] | None = None
    colors: tuple[Color, ...] | None = None
    ignore: tuple[int, ...] | None = None
    ignored_colors: tuple[Color, ...] = ()


def read_class_file(path: Path) -> ClassFile:
    """Reads and checks a class file.

    Raises:
        DataError: It is missing, no YAML, or says something that cannot be; the message names the file and the key.
    """
    content = _load(path)
    for key in content:
        if key not in _KEYS:
            raise DataError(
                f"{path}: there is no key {key!r}; the keys are {listing(_KEYS)}.", did_you_mean(key, _KEYS)
            )
    if "names" not in content:
        raise DataError(f"{path}: the key 'names' is missing.", _EXAMPLE)
    names, values = _names(path, content["names"])
    if "values" in content:
        if values is not None:
            raise DataError(f"{path}: 'values' repeats what 'names' says.", "Give the values in one of the two places.")
        values = tuple(_value(path, "values", item) for item in _list(path, content, "values", len(names)))
    colors = None
    if "colors" in content:
        colors = tuple(_color(path, "colors", item) for item in _list(path, content, "colors", len(names)))
    ignore, ignored_colors = _ignore(path, content["ignore"]) if "ignore" in content else (None, ())
    _refuse_repeats(path, "names", names)
    _refuse_repeats(path, "values", (*(values or ()), *(ignore or ())))
    _refuse_repeats(path, "colors", (*(colors or ()), *ignored_colors))
    return ClassFile(names, values, colors, ignore, ignored_colors)


class _Loader(yaml.BaseLoader):
    """Every scalar is text; a key given twice is an error instead of silently the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)


def _load(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
    except FileNotFoundError:
        raise DataError(f"The class file {path} does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The class file {path} cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise DataError(f"{path}{line} is not YAML: {getattr(error, 'problem', None) or error}.", _EXAMPLE) from error
    if not isinstance(content, dict):
        raise DataError(f"{path} does not hold the keys of a class file.", _EXAMPLE)
    return content


def _names(path: Path, given: Any) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    values = None
    if isinstance(given, dict):
        values = tuple(_value(path, "names", key) for key in given)
        given = list(given.values())
    if not isinstance(given, list) or not all(isinstance(name, str) and name.strip() for name in given):
        raise DataError(f"{path}: 'names' must be a list of class names.", _EXAMPLE)
    if not 2 <= len(given) <= 255:
        raise DataError(
            f"{path}: 'names' lists {len(given)} classes; there must be 2 to 255.", "Count the background too."
        )
    return tuple(given), values


def _list(path: Path, content: Mapping[str, Any], key: str, length: int) -> list[Any]:
    given = content[key]
    if not isinstance(given, list) or len(given) != length:
        found = f"has {len(given)}" if isinstance(given, list) else "is no list"
        raise DataError(f"{path}: {key!r} must list one item for each of the {length} names, but {found}.")
    return given


def _value(path: Path, key: str, text: Any) -> int:
    if isinstance(text, str) and text.isdecimal() and int(text) <= 255:
        return int(text)
    raise DataError(f"{path}: {key!r} has {text!r} where a mask's value, 0 to 255, should be.")


def _color(path: Path, key: str, given: Any) -> Color:
    if isinstance(given, str) and (match := _COLOR.fullmatch(given)):
        red, green, blue = (int(channel, 16) for channel in match.groups())
        return red, green, blue
    if isinstance(given, list) and len(given) == 3:
        red, green, blue = (_value(path, key, channel) for channel in given)
        return red, green, blue
    hint = 'Write it in quotes, "#rrggbb" (without them # begins a comment), or as [red, green, blue].'
    raise DataError(f"{path}: {key!r} has {given!r} where a colour should be.", hint)


def _ignore(path: Path, given: Any) -> tuple[tuple[int, ...], tuple[Color, ...]]:
    items = given if isinstance(given, list) else [given]
    colors = [item for item in items if isinstance(item, list) or str(item).startswith("#")]
    values = [item for item in items if item not in colors]
    return (
        tuple(_value(path, "ignore", item) for item in values),
        tuple(_color(path, "ignore", item) for item in colors),
    )


def _refuse_repeats(path: Path, key: str, items: Sequence[Any]) -> None:
    for item in items:
        if items.count(item) > 1:
            ignored = "" if key == "names" else ", 'ignore' included"
            raise DataError(f"{path}: {key!r} has {item} more than once{ignored}.", "Each must mean one class.")
