"""What model, loss and data set keep from one step to the next outside of a checkpoint, as far as it can be seen.

Plain attributes are looked at: numbers, texts, arrays, random generators, and containers and objects of these. What
hides in a closure, in a module's globals or in a data worker is not seen.
"""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DEEPEST = 6
LARGEST = 100  # of a larger container only the length counts
LONGEST = 40  # characters of a value that is shown

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def kept(things: Mapping[str, Any]) -> dict[str, str]:
    """The state of each of `things` by path, such as ``{"model.head.calls": "3"}``.

    A model's parameters and persistent buffers are left out, because a checkpoint holds them; nothing of a loss or a
    data set is saved.

    Args:
        things: By the names that the paths begin with; the model is called ``model``.
    """
    return {path: text for name, thing in things.items() for path, text in _walk(thing, name, name == "model", set())}


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What is not as it was, in words: ``"model.calls (was 1, is 12)"``."""
    differing = [path for path in after if before.get(path) != after[path]]
    return [f"{path} (was {before.get(path, 'not there')}, is {after[path]})" for path in differing]


def _walk(thing: Any, path: str, saved: bool, seen: set[int], depth: int = 0) -> Iterator[tuple[str, str]]:
    text = _text(thing)
    if text is not None:
        yield path, text
        return
    if depth > DEEPEST or id(thing) in seen or isinstance(thing, (type, ModuleType)):
        return
    seen.add(id(thing))
    parts = _parts(thing, saved)
    if isinstance(thing, (Mapping, list, tuple, set, frozenset, deque)):
        yield path, f"{type(thing).__name__} of {len(thing)}"
    for name, part in parts.items():
        yield from _walk(part, f"{path}.{name}", saved, seen, depth + (not isinstance(part, nn.Module)))


def _parts(thing: Any, saved: bool) -> dict[Any, Any]:
    if isinstance(thing, nn.Module):
        own = {name: value for name, value in vars(thing).items() if name not in _OF_EVERY_MODULE}
        buffers = {name: value for name, value in thing._buffers.items() if value is not None}
        if saved:
            unsaved = {name: buffers[name] for name in thing._non_persistent_buffers_set if name in buffers}
            return {**own, **unsaved, **thing._modules}
        return {**own, **buffers, **thing._parameters, **thing._modules}
    if isinstance(thing, Mapping):
        return dict(thing) if len(thing) <= LARGEST else {}
    if isinstance(thing, (list, tuple, deque)):
        return dict(enumerate(thing)) if len(thing) <= LARGEST else {}
    return dict(getattr(thing, "__dict__", {}))


def _text(value: Any) -> str | None:
    """What stands for a value that has no parts; None for one that has."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic)):
        text = repr(value)
        return text if len(text) <= LONGEST else f"{text[:LONGEST]}... {_digest(text.encode())}"
    if isinstance(value, Tensor):
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return f"a tensor {tuple(value.shape)} {_digest(content)}"
    if isinstance(value, np.ndarray):
        content = value.tobytes() if value.dtype != object else repr(value).encode()
        return f"an array {value.shape} {_digest(content)}"
    if isinstance(value, np.random.Generator):
        return f"a random generator {_digest(repr(value.bit_generator.state).encode())}"
    if isinstance(value, (random.Random, np.random.RandomState)):
        state = value.getstate() if isinstance(value, random.Random) else value.get_state()
        return f"a random generator {_digest(repr(state).encode())}"
    if isinstance(value, torch.Generator):
        return f"a random generator {_digest(value.get_state().numpy().tobytes())}"
    return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]
