"""The conformance kit: tries a plugin on everything the contract of `segctl.plugin` asks of its kind.

In a plugin's own tests, one line each::

    from segctl.conformance import assert_dataset, assert_loss, assert_model

    def test_unet():
        assert_model(unet)

``segctl plugins check`` runs the same checks on installed plugins. Importing this module imports no torch; the
functions do on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from segctl.conformance.report import Check, Report

if TYPE_CHECKING:
    from segctl.conformance.assertions import assert_dataset as assert_dataset
    from segctl.conformance.assertions import assert_loss as assert_loss
    from segctl.conformance.assertions import assert_model as assert_model
    from segctl.conformance.datasets import check_dataset as check_dataset
    from segctl.conformance.installed import check_plugin as check_plugin
    from segctl.conformance.losses import check_loss as check_loss
    from segctl.conformance.models import check_model as check_model

_HOME = {
    "assert_dataset": "assertions",
    "assert_loss": "assertions",
    "assert_model": "assertions",
    "check_dataset": "datasets",
    "check_loss": "losses",
    "check_model": "models",
    "check_plugin": "installed",
}

__all__ = [
    "Check",
    "Report",
    "assert_dataset",
    "assert_loss",
    "assert_model",
    "check_dataset",
    "check_loss",
    "check_model",
    "check_plugin",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"segctl.conformance.{_HOME[name]}"), name)
    raise AttributeError(f"module 'segctl.conformance' has no attribute {name!r}")
