"""Models without memory and numbers, built in a moment, for tests of names and shapes; and how large models are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def on_meta(factory: Callable[..., nn.Module], *given: Any, **options: Any) -> Any:
    """What `factory` makes, on the meta device."""
    with torch.device("meta"):
        return factory(*given, **options)


def count(*modules: nn.Module) -> int:
    """How many parameters the modules have in all."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())
