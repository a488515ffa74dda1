"""Losses added with weights: by name, with options, each error with the place of its loss."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
import torch
from installed import install
from rows import SURE, UNSURE, classes, pixels
from torch import nn

from segctl import registry
from segctl.config.schema import Plugin
from segctl.errors import ConfigError, PluginError, SegctlError


def create(losses: Any = None, **facts: Any) -> Any:
    """As segctl makes it: options are resolved, then the loss is made for two classes."""
    plugin = Plugin(name="sum", options={} if losses is None else {"losses": losses})
    context = {"num_classes": 2, "ignore_index": 255, "class_pixels": lambda: [3, 1], **facts}
    return registry.create_loss(registry.resolve_plugin("losses", plugin), **context)


def test_terms_are_weighted_and_named_after_their_losses() -> None:
    loss = create(
        [{"name": "cross_entropy", "weight": 2, "aux_weight": 0.5}, {"name": "focal", "gamma": 1.0, "weight": 0.1}]
    )

    terms = loss({"out": pixels(SURE), "aux": pixels(UNSURE)}, classes(1))

    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {
            "cross_entropy": 2 * log(4 / 3),
            "cross_entropy.aux": 2 * 0.5 * log(2),
            "focal": 0.1 * 1 / 4 * log(4 / 3),
            "focal.aux": 0.1 * 0.4 * 1 / 2 * log(2),
        }
    )


def test_the_same_loss_may_be_named_again() -> None:
    loss = create([{"name": "dice"}, {"name": "dice", "smooth": 1.0}, {"name": "segctl:dice"}])

    terms = loss(pixels(SURE), classes(1))

    assert list(terms) == ["dice", "dice 2", "segctl:dice"]
    assert terms["dice"] == terms["segctl:dice"] != terms["dice 2"]


def test_by_default_it_is_cross_entropy_and_dice() -> None:
    terms = create()(pixels(UNSURE, UNSURE), classes(1, 0))

    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"cross_entropy": log(2), "dice": 1 - 2 * 0.5 / 2}
    )


def test_the_facts_of_the_data_reach_each_loss() -> None:
    loss = create(
        [{"name": "cross_entropy", "class_weights": "inverse_frequency"}, {"name": "dice", "class_weights": [1, 0]}],
        ignore_index=-1,
    )

    terms = loss(pixels(SURE, UNSURE, UNSURE), classes(1, 0, -1))

    rare, common = 1 / (2 * 0.25), 1 / (2 * 0.75)
    assert terms["cross_entropy"].item() == pytest.approx((rare * log(4 / 3) + common * log(2)) / (rare + common))
    assert terms["dice"].item() == pytest.approx(1 - 2 * 0.5 / (0.75 + 1))


def test_what_the_losses_hold_moves_with_the_sum() -> None:
    loss = create([{"name": "cross_entropy", "class_weights": [1, 3]}, {"name": "dice"}])

    assert [buffer.dtype for buffer in loss.double().buffers()] == [torch.float64]
    assert not loss.state_dict()


def test_a_sum_may_hold_a_sum() -> None:
    inner = {"name": "sum", "weight": 0.5, "losses": [{"name": "dice", "weight": 0.5}]}

    terms = create([{"name": "cross_entropy"}, inner])(pixels(UNSURE, UNSURE), classes(1, 0))

    assert terms["sum.dice"].item() == pytest.approx(0.5 * 0.5 * 0.5)


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ([], r"^loss\.losses: no loss is named"),
        (3, r"^loss\.losses: 3 is not a list of mappings"),
        (["dice"], r"^loss\.losses: \['dice'\] is not a list of mappings"),
        ([{"weight": 1}], r"^loss\.losses\[0\]\.name: it says no loss's name"),
        ([{"name": "dice", "weight": -1}], r"^loss\.losses\[0\]\.weight: -1 is not"),
        ([{"name": "dice", "weight": 0}], r"^loss\.losses: all weights are 0, so nothing would be learnt"),
        ([{"name": "dice", "weight": 0.0}, {"name": "focal", "weight": -0.0}], r"^loss\.losses: all weights are 0"),
        (
            [{"name": "sum", "losses": [{"name": "dice", "weight": 0}]}],
            r"^loss\.losses\[0\]\.losses: all weights",
        ),
        ([{"name": "dice", "weight": True}], r"^loss\.losses\[0\]\.weight: True is not"),
        ([{"name": "dice", "weight": float("inf")}], r"^loss\.losses\[0\]\.weight: inf is not"),
        ([{"name": "dice", "options": 3}], r"^loss\.losses\[0\]\.options: 3 is not"),
        (
            [{"name": "dice"}, {"name": "focal", "gama": 3}],
            r"^loss\.losses\[1\]\.gama: focal has no option 'gama'\. Did you mean 'gamma'\?",
        ),
        (
            [{"name": "focal", "gamma": "much", "activation": "softmin"}],
            r"^loss\.losses\[0\]\.gamma: 'much' is not a number\.\nloss\.losses\[0\]\.activation: 'softmin' is not one",
        ),
        ([{"name": "dice", "smooth": -1}], r"^loss\.losses\[0\]\.smooth: -1 is not"),
        ([{"name": "dice", "class_weights": [1]}], r"^loss\.losses\[0\]\.class_weights: 1 weights are given"),
        (
            [{"name": "sum", "losses": [{"name": "dice", "smooth": -1}]}],
            r"^loss\.losses\[0\]\.losses\[0\]\.smooth: -1 is not",
        ),
    ],
)
def test_a_wrong_option_is_refused_with_its_place(losses: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create(losses)


def test_a_loss_may_be_shown_and_not_minimised() -> None:
    terms = create([{"name": "dice"}, {"name": "focal", "weight": 0}])(pixels(UNSURE), classes(1))

    assert terms["dice"] > 0
    assert terms["focal"] == 0


def test_a_loss_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(PluginError, match=r"^loss\.losses\[1\]: there is no loss 'dise'\. Did you mean 'dice'\?"):
        create([{"name": "dice"}, {"name": "dise"}])


# ---- losses of others


class Foreign(nn.Module):
    def __init__(self, *, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, outputs: Any, target: torch.Tensor) -> torch.Tensor:
        return torch.tensor(self.weight)


def test_losses_of_other_distributions_are_named_alike(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {"foreign": f"{__name__}:Foreign", "broken": "nowhere:Loss"}
    monkeypatch.syspath_prepend(install(tmp_path / "site", "acme", losses=losses))

    # Its own option is called weight, as the sum's weight is: it stands below `options`.
    terms = create([{"name": "foreign", "weight": 3, "options": {"weight": 0.5}}])(pixels(SURE), classes(1))

    assert {name: term.item() for name, term in terms.items()} == {"foreign": 1.5}
    with pytest.raises(SegctlError, match=r"^loss\.losses\[0\]: cannot import the loss 'broken' of acme 1\.0"):
        create([{"name": "broken"}])
