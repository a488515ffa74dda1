"""A name under which an installed distribution offers a plugin."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from segctl.errors import PluginError

KINDS = ("models", "datasets", "losses")
KIND_NAMES = {"models": "model", "datasets": "data set", "losses": "loss"}
_WHERE = {"models": "model", "datasets": "dataset", "losses": "loss"}

_TARGET = re.compile(r"(?P<module>\w+(?:\.\w+)*)\s*:\s*(?P<attribute>\w+(?:\.\w+)*)\s*(?:\[.*\])?")


def where(kind: str) -> str:
    """The section of the configuration that names a plugin of this kind: ``"dataset"`` for ``"datasets"``."""
    return _WHERE[kind]


@dataclass(frozen=True)
class PluginEntry:
    """One name that one distribution offers.

    Attributes:
        kind: One of `KINDS`.
        distribution: The distribution's name, normalised: lower case, with hyphens.
        version: Empty where its metadata do not say.
        target: What the entry point names, ``"module:attribute"``.
    """

    kind: str
    name: str
    distribution: str
    version: str
    target: str

    @property
    def qualified(self) -> str:
        """The name that is unique where two distributions offer the same."""
        return f"{self.distribution}:{self.name}"

    @property
    def module(self) -> str:
        """Empty where `target` is not of the form it must have."""
        match = _TARGET.fullmatch(self.target)
        return match["module"] if match else ""

    @property
    def attribute(self) -> str:
        match = _TARGET.fullmatch(self.target)
        return match["attribute"] if match else ""

    def __str__(self) -> str:
        return f"the {KIND_NAMES[self.kind]} {self.name!r} of {self.distribution} {self.version}".rstrip()

    def load(self) -> Callable[..., Any]:
        """Imports the plugin.

        Raises:
            PluginError: Its module cannot be imported, or does not hold what the entry point names.
        """
        if not self.module:
            raise PluginError(f"The entry point of {self}, {self.target!r}, is not of the form 'module:function'.")
        try:
            found: Any = import_module(self.module)
            for part in self.attribute.split("."):
                found = getattr(found, part)
        except (Exception, SystemExit) as error:  # whatever a stranger's module does when it is imported
            raise PluginError(
                f"Cannot import {self}: {type(error).__name__}: {error}.", self._way_out(error)
            ) from error
        if not callable(found):
            raise PluginError(
                f"{self.target}, which is {self}, is of type {type(found).__name__}, not a function or class."
            )
        factory: Callable[..., Any] = found
        return factory

    def _way_out(self, error: BaseException) -> str:
        missing = (error.name or "").split(".")[0] if isinstance(error, ModuleNotFoundError) else ""
        if missing and missing != self.module.split(".")[0]:
            return f"Install what provides {missing!r} into this environment."
        return f"Reinstall or update {self.distribution}, or report this to its authors."
