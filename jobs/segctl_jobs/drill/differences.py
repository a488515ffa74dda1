"""Whether two trainings ended alike, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segctl.errors import CheckpointError
from segctl_jobs import checkpoint

_ABSENT = object()
_NOT_COMPARED = ("format", "config", "dataset_info")  # a run's name stands in its configuration


def differences(one: Path, other: Path) -> tuple[str, ...]:
    """Names of the entries in which two runs' newest checkpoints differ, such as ``model.head.weight``.

    Args:
        one: A run's folder of checkpoints; so is `other`.

    Raises:
        CheckpointError: One has no checkpoint that can be read.
    """
    left, right = (dict(_entries(_newest(folder), "")) for folder in (one, other))
    names = sorted({**left, **right}, key=lambda name: "." not in name)  # weights before figures such as the mIoU
    return tuple(name for name in names if not _same(left.get(name, _ABSENT), right.get(name, _ABSENT)))


def _newest(folder: Path) -> dict[str, Any]:
    state = checkpoint.newest(folder)
    if state is None:
        raise CheckpointError(f"There is no checkpoint in {folder}.")
    return {name: value for name, value in state.items() if name not in _NOT_COMPARED}


def _entries(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The tensors and numbers in nested dicts and lists, by path."""
    if isinstance(value, (Mapping, list, tuple)):
        parts = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, part in parts:
            yield from _entries(part, f"{path}.{name}" if path else str(name))
    else:
        yield path, value


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(_bits(one), _bits(other))
    # By their texts, which tell 0.0 from -0.0 and hold NaN equal to itself.
    return type(one) is type(other) and repr(one) == repr(other)


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)
