"""A weighted sum of losses, such as cross entropy and Dice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import inf
from typing import Any, TypeAlias

from torch import Tensor, nn

from segctl.errors import ConfigError, SegctlError

__all__ = ["Sum"]

Loss: TypeAlias = Callable[[Any, Tensor], "Tensor | Mapping[str, Tensor]"]

_DEFAULT: list[dict[str, Any]] = [{"name": "cross_entropy"}, {"name": "dice"}]
_EXAMPLE = "An example: losses: [{name: cross_entropy}, {name: dice, weight: 0.5, smooth: 1}]"


class Sum(nn.Module):
    """Any losses, added with weights.

    The terms have the losses' names: ``dice`` is that of the main map of logits (or all of a loss without named terms),
    ``dice.aux`` that of an auxiliary one. A loss that is named again is ``dice 2``.

    Args:
        create_loss: Makes a loss plugin of its name and options, for the same data.
        losses: For each loss its name, its weight (default 1) and its options, such as [{name: cross_entropy}, {name:
            dice, weight: 0.5, smooth: 1}]. If a loss has itself an option called name or weight, write that below
            options, such as {name: theirs, weight: 0.5, options: {weight: 2}}.

    Raises:
        ConfigError: No loss is given, one is not of that form, an option of one is not acceptable, or all weights are
            0.
        PluginError: There is no such loss, or it cannot be made.
    """

    def __init__(
        self, create_loss: Callable[[str, Mapping[str, Any]], Loss], *, losses: list[dict[str, Any]] = _DEFAULT
    ) -> None:
        super().__init__()
        if not losses:
            raise ConfigError("loss.losses: no loss is named.", _EXAMPLE)
        self.terms: dict[str, tuple[float, Loss]] = {}
        for index, given in enumerate(losses):
            path = f"loss.losses[{index}]"
            name, weight, options = _parts(given, path)
            with _below(path):
                loss = create_loss(name, options)
            again = sum(other["name"] == name for other in losses[:index])
            self.terms[f"{name} {again + 1}" if again else name] = weight, loss
            if isinstance(loss, nn.Module):  # registered, so that its class weights follow to the device
                self.add_module(f"loss{index}", loss)
        if not any(weight for weight, _ in self.terms.values()):
            raise ConfigError(
                "loss.losses: all weights are 0, so nothing would be learnt.", "Give at least one loss a weight."
            )

    def forward(self, outputs: Tensor | Mapping[str, Tensor], target: Tensor) -> dict[str, Tensor]:
        """The terms whose sum is minimised, scalars that are already weighted.

        Args:
            outputs: What the model returned.
            target: Class indices or the ignored value, ``(N, H, W)`` int64.
        """
        terms = {}
        for name, (weight, loss) in self.terms.items():
            parts = loss(outputs, target)
            for part, value in (parts if isinstance(parts, Mapping) else {"out": parts}).items():
                terms[name if part == "out" else f"{name}.{part}"] = weight * value
        return terms


def _parts(given: Mapping[str, Any], path: str) -> tuple[str, float, dict[str, Any]]:
    """A loss's name, weight and options.

    Raises:
        ConfigError: They are not of that form.
    """
    options = {key: value for key, value in given.items() if key not in ("name", "weight", "options")}
    name, weight, more = given.get("name"), given.get("weight", 1.0), given.get("options", {})
    if not isinstance(name, str):
        raise ConfigError(f"{path}.name: it says no loss's name.", _EXAMPLE)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < inf:
        raise ConfigError(f"{path}.weight: {weight!r} is not a finite number, 0 or greater.")
    if not isinstance(more, Mapping):
        raise ConfigError(f"{path}.options: {more!r} is not a mapping of options to values.")
    return name, float(weight), {**options, **more}


@contextmanager
def _below(path: str) -> Iterator[None]:
    """Has an error of a loss say where in this one it stands: it speaks of ``loss.smooth``, as if it stood alone."""
    try:
        yield
    except SegctlError as error:
        message, replaced = re.subn(r"^loss\b(?=[.\[])", path, error.message, flags=re.MULTILINE)
        if not replaced:
            message = f"{path}: {message[:1].lower()}{message[1:]}"
        raise type(error)(message, error.hint) from error
