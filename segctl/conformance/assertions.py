"""The checks as assertions, for the tests of a plugin: they fail with the list of what is wrong and why."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from segctl.conformance.contract import Factory
from segctl.conformance.report import Check, describe_checks

if TYPE_CHECKING:
    from segctl.conformance.losses import Outputs


def assert_model(factory: Factory, *, options: Mapping[str, Any] | None = None) -> None:
    """Fails unless the model passes every check of `check_model`, which explains the arguments."""
    __tracebackhide__ = True
    from segctl.conformance.models import check_model

    _require("model", factory, check_model(factory, options=options))


def assert_loss(factory: Factory, *, options: Mapping[str, Any] | None = None, outputs: Outputs | None = None) -> None:
    """Fails unless the loss passes every check of `check_loss`, which explains the arguments."""
    __tracebackhide__ = True
    from segctl.conformance.losses import check_loss

    _require("loss", factory, check_loss(factory, options=options, outputs=outputs))


def assert_dataset(
    factory: Factory,
    root: str | os.PathLike[str],
    split: str | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    samples: int = 6,
) -> None:
    """Fails unless the data set passes every check of `check_dataset`, which explains the arguments.

    Where nothing fails but the data are not on disk, the test is reported as skipped, with what is missing.
    """
    __tracebackhide__ = True
    from segctl.conformance.datasets import check_dataset

    checks = check_dataset(factory, root, split, options=options, samples=samples)
    _require("data set", factory, checks)
    untried = [check for check in checks if check.skipped]
    if untried:
        import pytest

        pytest.skip(f"{untried[0].name}: {untried[0].detail}")


def _require(kind: str, factory: Factory, checks: tuple[Check, ...]) -> None:
    __tracebackhide__ = True
    if any(check.failed for check in checks):
        name = getattr(factory, "__qualname__", repr(factory))
        raise AssertionError(describe_checks(f"the {kind} {name}", checks))
