"""Values as YAML and JSON know them, so that what is written and read again is equal to what was there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from enum import Enum
from pathlib import PurePath
from typing import Any


def plain(value: Any, *, absolute_paths: bool = False) -> Any:
    """`value` in None, bool, int, float, str, list and dict alone; tuples and sets become lists, enumerations their
    values.

    Args:
        absolute_paths: Make relative paths absolute, against the current directory; ``~`` is expanded. Strings are no
            paths.

    Raises:
        TypeError: There is no plain form of it, or it is NaN, which does not equal what is read again.
    """
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float) and value != value:
        raise TypeError("NaN is not equal to itself")
    for scalar in (int, float, str):
        if isinstance(value, scalar):
            return scalar(value)
    if isinstance(value, PurePath):
        return absolute(str(value)) if absolute_paths else str(value)
    if isinstance(value, Mapping):
        return {
            plain(key, absolute_paths=absolute_paths): plain(item, absolute_paths=absolute_paths)
            for key, item in value.items()
        }
    if isinstance(value, Set):
        return sorted((plain(item, absolute_paths=absolute_paths) for item in value), key=repr)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | range):
        return [plain(item, absolute_paths=absolute_paths) for item in value]
    raise TypeError(f"{type(value).__name__} has no plain form")


def absolute(path: str) -> str:
    # Not resolved: on a cluster, what a symbolic link stands for may differ from node to node.
    return os.path.abspath(os.path.expanduser(path))
