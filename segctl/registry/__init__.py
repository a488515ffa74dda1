"""Finds plugins by name, among those that installed distributions offer through entry points, and makes what they
describe.

`entry` is one name that a distribution offers, `discovery` finds them without importing any, `creation` makes models,
losses and data sets of them.
"""

from segctl.registry.creation import (
    create_loss,
    create_model,
    dataset_home,
    dataset_root,
    one_opening,
    open_dataset,
    resolve_plugin,
)
from segctl.registry.discovery import alias_of, discover, find, names, one_look
from segctl.registry.entry import KIND_NAMES, KINDS, PluginEntry, where

__all__ = [
    "KINDS",
    "KIND_NAMES",
    "PluginEntry",
    "alias_of",
    "create_loss",
    "create_model",
    "dataset_home",
    "dataset_root",
    "discover",
    "find",
    "names",
    "one_look",
    "one_opening",
    "open_dataset",
    "resolve_plugin",
    "where",
]
