"""Checks that are the same for all three kinds: what a factory's signature and docstring say."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from segctl import options
from segctl.conformance.report import BreachError, Step
from segctl.errors import listing

Factory = Callable[..., Any]


def signature_steps(factory: Factory, where: str) -> tuple[Step, ...]:
    """The checks of a factory's signature.

    Args:
        factory: The plugin.
        where: Its kind, as `segctl.options` names it: ``"model"``, ``"dataset"`` or ``"loss"``.
    """
    return (
        Step("signature", lambda: _signature(factory, where)),
        Step("documented options", lambda: _documented(factory, where)),
    )


def context_of(factory: Factory, available: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `available` that the factory's signature has a parameter for."""
    parameters = inspect.signature(factory).parameters
    return {name: value for name, value in available.items() if name in parameters}


def _signature(factory: Factory, where: str) -> None:
    given, parameters = options.CONTEXT[where], inspect.signature(factory).parameters
    missing = sorted(given - parameters.keys())
    if missing and where != "loss":  # which takes of these what it needs
        raise BreachError(f"it has no parameter {listing(missing)}, which segctl passes")
    swallowing = [p for p in parameters.values() if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if swallowing:
        raise BreachError(f"{swallowing[0]} swallows misspelt options; name each option instead")
    positional = [p.name for p in parameters.values() if p.kind is not p.KEYWORD_ONLY and p.name not in given]
    if positional:
        raise BreachError(
            f"{listing(positional)} can be passed by position; options are keyword-only: put a * before them"
        )
    required = [p.name for p in _own(factory, where) if p.default is p.empty]
    if required:
        raise BreachError(f"{listing(required)} has no default; a plugin must work when it is only named")


def _documented(factory: Factory, where: str) -> str:
    if not (inspect.getdoc(factory) or "").strip() or factory.__doc__ is None:
        raise BreachError("it has no docstring; its first line is shown by `segctl plugins list`")
    own = _own(factory, where)
    untyped = [parameter.name for parameter in own if parameter.annotation is parameter.empty]
    if untyped:
        raise BreachError(
            f"{listing(untyped)} has no type annotation, so values from the command line cannot be checked"
        )
    described = {option.name: option for option in options.describe(factory, where)}
    undocumented = [p.name for p in own if p.name not in described or not described[p.name].help.strip()]
    if undocumented:
        raise BreachError(f"{listing(undocumented)} has no line in the docstring's 'Args:' section")
    return f"options: {listing(parameter.name for parameter in own)}"


def _own(factory: Factory, where: str) -> list[inspect.Parameter]:
    """The options: what the user sets, and segctl does not."""
    parameters = inspect.signature(factory).parameters.values()
    return [
        p
        for p in parameters
        if p.name not in options.CONTEXT[where] and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
