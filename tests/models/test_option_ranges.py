"""Options of models that take numbers: what is out of their range is refused in one sentence that names the option."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
import torch

from segctl import registry
from segctl.config.schema import Plugin
from segctl.errors import ConfigError
from segctl.options import describe

# Of each option values that no network can be made with; and one beside the default that is fine.
RANGES: dict[tuple[str, str], tuple[list[Any], Any]] = {
    ("ccnet", "recurrence"): ([0, -1], 1),
    ("cgnet", "stage2_blocks"): ([0, -1], 1),
    ("cgnet", "stage3_blocks"): ([0, -1], 1),
    ("cgnet", "dropout"): ([-0.1, 1, 2], 0.5),
    ("deeplabv3", "rates"): ([[0, 1, 2], [1, -1, 2]], [1, 1, 1]),
    ("espnet", "p"): ([0, -1], 1),
    ("espnetv2", "scale"): ([0, -1, 0.7], 0.5),
    ("lraspp", "channels"): ([0, -5], 1),
    ("psanet", "mask"): ([0, -1, 2], 1),
    ("unet", "width"): ([0, -3], 1),
    ("unet", "dropout"): ([-0.1, 1, 2, inf], 0),
    ("upernet", "channels"): ([0, -1], 1),
    **{(model, "std"): ([[1, -1, 1], [1, 0, 1], [1, inf, 1]], [1, 1, 1]) for model in ("cgnet", "espnet", "espnetv2")},
    **{(model, "mean"): ([[1, inf, 1], [-inf, 0, 1]], [0, -1, 1]) for model in ("cgnet", "espnet", "espnetv2")},
}


def make(model: str, option: str, value: Any) -> Any:
    """As segctl does it: options are resolved, then the model is made; without memory."""
    together = {"mean": {"std": [1, 1, 1]}, "std": {"mean": [1, 1, 1]}}.get(option, {})
    plugin = registry.resolve_plugin("models", Plugin(name=model, options={**together, option: value}))
    with torch.device("meta"):
        return registry.create_model(plugin, 2)


def test_the_table_has_every_option_that_takes_a_number() -> None:
    numeric = {
        (entry.name, option.name)
        for entry in registry.discover("models")
        if entry.distribution == "segctl"
        for option in describe(entry.load(), "model")
        if not option.choices and ("int" in option.type_text or "float" in option.type_text)
    }

    assert numeric == RANGES.keys()


@pytest.mark.parametrize(
    ("model", "option", "value"), [(*key, value) for key, (wrong, _) in RANGES.items() for value in wrong]
)
def test_what_is_out_of_range_is_refused(model: str, option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^model\.{option}: "):
        make(model, option, value)


@pytest.mark.parametrize(("model", "option", "value"), [(*key, value) for key, (_, value) in RANGES.items()])
def test_what_is_in_it_is_taken(model: str, option: str, value: Any) -> None:
    assert make(model, option, value)
