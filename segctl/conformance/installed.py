"""Tries an installed plugin, whatever its kind: what `segctl plugins check` does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from segctl.conformance.report import Check, Report, Step, run_steps
from segctl.errors import DataError
from segctl.registry import PluginEntry, dataset_root


def check_plugin(entry: PluginEntry, *, data_root: str | Path) -> Report:
    """Imports a plugin and tries it with its default options.

    Args:
        entry: The plugin, as `segctl.registry` finds it.
        data_root: Folder of the data sets. A data set that is not in it is tried only on what needs no files.

    Returns:
        The report; a plugin that cannot be imported is one failed check, never an exception.
    """
    loaded: list[Callable[..., Any]] = []
    checks = run_steps([Step("imports", lambda: loaded.append(entry.load()), gate=True)])
    if loaded:
        checks += _check(entry, loaded[0], data_root)
    return Report(entry.kind, entry.name, entry.distribution, checks)


def _check(entry: PluginEntry, factory: Callable[..., Any], data_root: str | Path) -> tuple[Check, ...]:
    # Imported here, each where it is needed: a data set is tried without waiting for torch.
    if entry.kind == "datasets":
        from segctl.conformance.datasets import check_dataset

        return check_dataset(factory, _root_of(entry, factory, data_root))
    if entry.kind == "losses":
        from segctl.conformance.losses import check_loss

        return check_loss(factory)
    from segctl.conformance.models import check_model

    return check_model(factory)


def _root_of(entry: PluginEntry, factory: Callable[..., Any], data_root: str | Path) -> Path:
    try:
        return dataset_root(entry, factory, data_root)
    except DataError:  # nothing to read: the checks say what is missing
        return Path(data_root).expanduser() / entry.name
