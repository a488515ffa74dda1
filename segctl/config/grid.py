"""Settings with several values each, and the points of the grid that they span. Pure: no file is read here.

``optimizer.lr=0.01,0.005`` and ``model.backbone=resnet50,resnet101`` span four points. Commas in brackets or quotation
marks separate no values: ``augment.crop=[240, 320],[480, 640]`` are two.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from segctl.config.schema import Config
from segctl.config.yaml_core import scalar
from segctl.errors import ConfigError
from segctl.plain_data import plain
from segctl.wording import shown

__all__ = ["LIMIT", "Point", "label", "points", "points_of", "spans", "split"]

LIMIT = 10_000  # points; more is a slip of the keyboard
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"' + r"|'(?:[^']|'')*'", re.DOTALL)
_BRACKETS = ("[", "{")


@dataclass(frozen=True)
class Point:
    """One training of a sweep.

    Attributes:
        values: What is tried, by key, in the order of the sweep's keys.
        sets: All assignments of this training as ``"key=value"``: those that every point has, then those of this one.
    """

    values: Mapping[str, Any]
    sets: tuple[str, ...]


def split(text: str) -> list[str]:
    """The values in `text`: what stands between commas that are in no brackets and no quotation marks."""
    values, start, place, depth = [], 0, 0, 0
    begins = True  # a quotation mark means something only where a value begins
    while place < len(text):
        quoted = _QUOTED.match(text, place) if begins else None
        if quoted is not None:
            place, begins = quoted.end(), False
            continue
        sign = text[place]
        place += 1
        if sign == "," and depth == 0:
            values.append(text[start : place - 1])
            start = place
        depth = max(0, depth + (sign in "[{") - (sign in "]}"))
        begins = sign in "[{," or (sign == ":" and depth > 0) or (begins and sign.isspace())
    return [value.strip() for value in (*values, text[start:])]


def spans(sets: Iterable[str]) -> bool:
    """Whether one of these assignments gives several values."""
    return any(len(split(text.partition("=")[2])) > 1 for text in sets)


def points(sets: Sequence[str], rows: Sequence[Mapping[str, str]] = ({},)) -> tuple[Point, ...]:
    """Every combination of the values in `sets`, each with every row; what comes first changes slowest.

    Args:
        sets: Assignments, ``"key=value"`` or ``"key=value,value"``.
        rows: Points that are given as such, from `points_of`: values as text, by key.

    Raises:
        ConfigError: A setting cannot be tried in several values, or not in these; or there are more than `LIMIT`.
    """
    keys = [text.partition("=")[0].strip() for text in sets]
    choices = [_choices(text) for text in sets]
    tried = [key for key, values in zip(keys, choices, strict=True) if len(values) > 1]
    of_rows = dict.fromkeys(key for row in rows for key in row)
    _refuse_keys([*tried, *of_rows], [*keys, *of_rows])
    _refuse_too_many(math.prod(map(len, choices)) * len(rows))
    found = []
    for chosen, row in itertools.product(itertools.product(*choices), rows):
        varied = {**{key: text for key, text in zip(keys, chosen, strict=True) if key in tried}, **row}
        fixed = (text for key, text in zip(keys, sets, strict=True) if key not in tried)
        assignments = (*fixed, *(f"{key}={text}" for key, text in varied.items()))
        found.append(Point({key: scalar(text) for key, text in varied.items()}, assignments))
    return tuple(found)


def points_of(content: Any, source: str) -> tuple[Mapping[str, str], ...]:
    """The points that a file lists, or those of the grid that it spans: values as text, by key.

    Args:
        content: A list of mappings from keys to a value (points), or a mapping from keys to lists of values (a grid).
        source: The file, for messages.

    Raises:
        ConfigError: It is neither.
    """
    if isinstance(content, list) and content:
        rows = [dict(_row(row, f"{source}: point {number}")) for number, row in enumerate(content, 1)]
        for number, row in enumerate(rows, 1):
            if row.keys() != rows[0].keys():
                missing = sorted(row.keys() ^ rows[0].keys())
                raise ConfigError(
                    f"{source}: points 1 and {number} differ in what they set: {', '.join(missing)}.",
                    "Each point has to set the same keys.",
                )
        return tuple(rows)
    if not isinstance(content, dict) or not content:
        raise ConfigError(
            f"{source} is not a sweep: it holds {shown(content) if content else 'nothing'}.",
            "It is a mapping from keys to lists of values, such as `optimizer.lr: [0.01, 0.005]`, or a list of points, "
            "such as `- {optimizer.lr: 0.01, seed: 1}`.",
        )
    axes = [[(key, text) for text in _axis(key, values, source)] for key, values in content.items()]
    _refuse_too_many(math.prod(map(len, axes)))
    return tuple(dict(row) for row in itertools.product(*axes))


def label(values: Mapping[str, Any]) -> str:
    """A point in short, fit for a run's name: ``lr0.01-resnet50``."""
    words = (_word(key.rpartition(".")[2], value) for key, value in values.items())
    return "-".join(filter(None, (re.sub(r"[^A-Za-z0-9._-]+", "-", word).strip("-.") for word in words)))


def _word(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("name", name))
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return name + "x".join(_word("", item) for item in value)
    if isinstance(value, float):
        return f"{name}{value:g}".replace("e+", "e")
    return f"{name}-{value}".lower() if value is None or isinstance(value, bool) else f"{name}{value}"


def _choices(text: str) -> list[str]:
    """The values of one assignment; a single one, and what is no assignment, as it was typed."""
    key, _, typed = text.partition("=")
    values = split(typed)
    if len(values) == 1:
        return [typed]
    place = f"--set {text}"
    if "" in values:
        raise ConfigError(f"{place}: there is a comma with no value beside it.", "For no value at all write null.")
    if _takes_list(key.strip()) and not all(_is_bracketed(value) for value in values):
        raise ConfigError(
            f"{place}: {key.strip()} takes a list, so it is not clear where a value ends.",
            f"Each value of a list stands in brackets: --set '{key.strip()}=[{typed.strip()}]'.",
        )
    _refuse_repeated(key.strip(), [scalar(value) for value in values], place)
    return values


def _axis(key: Any, values: Any, source: str) -> list[str]:
    place = f"{source}: {key}"
    if not isinstance(key, str):
        raise ConfigError(f"{place} is not the key of a setting.", "An example: optimizer.lr")
    if not isinstance(values, list) or not values:
        raise ConfigError(
            f"{place}: {shown(values)} is not a list of values to try.",
            "An example: optimizer.lr: [0.01, 0.005]. What all have in common is given with --set, or in the recipe.",
        )
    if _takes_list(key) and not all(item is None or isinstance(item, list) for item in values):
        raise ConfigError(
            f"{place} takes a list, so each of its values has to be one.", f"As in {key}: [{json.dumps(values)}]"
        )
    _refuse_repeated(key, values, source)
    return [_text(value, place) for value in values]


def _row(row: Any, place: str) -> Iterator[tuple[str, str]]:
    if not isinstance(row, dict) or not row or not all(isinstance(key, str) for key in row):
        raise ConfigError(
            f"{place}: {shown(row)} is not a mapping from keys to values.", "An example: {optimizer.lr: 0.01, seed: 1}"
        )
    for key, value in row.items():
        yield key, _text(value, f"{place}: {key}")


def _text(value: Any, place: str) -> str:
    """`value` as `scalar` reads it back."""
    if isinstance(value, str) and type(scalar(value)) is str and scalar(value) == value:
        return value
    try:
        return json.dumps(plain(value), ensure_ascii=False)
    except TypeError as error:
        raise ConfigError(f"{place}: {shown(value)} cannot be a setting: {error}.") from None


def _refuse_keys(tried: Sequence[str], all_keys: Sequence[str]) -> None:
    for key in tried:
        if key.split(".")[0] == "launch":
            raise ConfigError(
                f"{key}: the runs of a sweep are all submitted in the same way, with one value of this.",
                f"A comma that belongs to the value stands in quotation marks: --set '{key}=\"a,b\"'.",
            )
        if key == "name":
            raise ConfigError(
                "name: the runs of a sweep are named after what they try.", "--name gives a name to the sweep."
            )
        if all_keys.count(key) > 1:
            raise ConfigError(f"{key} is set more than once.", "Give it once, with all its values.")


def _refuse_repeated(key: str, values: Sequence[Any], place: str) -> None:
    for index, value in enumerate(values):
        if repr(value) in map(repr, values[:index]):
            raise ConfigError(f"{place}: {key} has the value {shown(value)} twice.", "Each is tried once.")


def _refuse_too_many(count: int) -> None:
    if count > LIMIT:
        raise ConfigError(f"These are {count} trainings; a sweep has {LIMIT} at most.", "Try fewer values.")


def _is_bracketed(value: str) -> bool:
    return value.startswith(_BRACKETS) or scalar(value) is None


def _takes_list(key: str) -> bool:
    """Whether a setting of the schema may be a list; options of plugins are not known here."""
    section: Any = Config
    annotation: Any = None
    for part in key.split("."):
        field = section.model_fields.get(part) if section is not None else None
        annotation = field.annotation if field is not None else None
        section = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    return any(get_origin(member) in (tuple, list) for member in (annotation, *get_args(annotation)))
