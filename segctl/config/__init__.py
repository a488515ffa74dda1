"""A run's configuration: one schema, and how recipes, flags and ``--set`` become it.

Names are loaded on first use (PEP 562), so that listing recipes does not import pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segctl.config.load import dump as dump
    from segctl.config.load import load as load_config
    from segctl.config.load import resolve as resolve
    from segctl.config.schema import Config as Config
    from segctl.config.shipped import recipe_description as recipe_description
    from segctl.config.shipped import recipes as recipes

_HOMES = {
    "dump": ("segctl.config.load", "dump"),
    "load_config": ("segctl.config.load", "load"),
    "resolve": ("segctl.config.load", "resolve"),
    "Config": ("segctl.config.schema", "Config"),
    "recipe_description": ("segctl.config.shipped", "recipe_description"),
    "recipes": ("segctl.config.shipped", "recipes"),
}

__all__ = ["Config", "dump", "load_config", "recipe_description", "recipes", "resolve"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        module, attribute = _HOMES[name]
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'segctl.config' has no attribute {name!r}")
