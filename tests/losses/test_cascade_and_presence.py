"""ICNet's and EncNet's losses: labels of other sizes, and which classes an image shows."""

from __future__ import annotations

from math import log

import pytest
import torch
import torch.nn.functional as F
from rows import IGNORED, SURE, UNSURE, classes, pixels

from segctl.errors import ConfigError, PluginError
from segctl_losses.encnet import EncNet
from segctl_losses.icnet import ICNet


def test_icnet_takes_labels_by_the_nearest_pixel_rounded_down() -> None:
    # Of 5 columns, 2 take 0 and 2 (floor(0 * 5/2), floor(1 * 5/2)), 3 take 0, 1 and 3, and 1 takes 0.
    target = classes(1, 0, IGNORED, 1, 0)
    outputs = {"sub4": pixels(SURE, UNSURE, UNSURE), "sub8": pixels(SURE, SURE), "sub16": pixels(UNSURE)}

    terms = {name: term.item() for name, term in ICNet(2)(outputs, target).items()}

    assert terms == pytest.approx(
        {
            "sub4": (log(4 / 3) + log(2) + log(2)) / 3,  # labels 1, 0, 1
            "sub8": 0.4 * log(4 / 3),  # labels 1 and ignored
            "sub16": 0.4 * log(2),
        }
    )


@pytest.mark.parametrize("size", [(9, 13), (5, 7), (3, 4), (33, 50), (1, 1), (40, 60)])
def test_icnet_labels_are_those_of_nearest_interpolation(size: tuple[int, int]) -> None:
    """What the loss makes of the labels shows in its gradient: it is negative at the true class alone."""
    torch.manual_seed(0)
    target = torch.randint(-1, 4, (2, 33, 50))
    logits = torch.zeros(2, 4, *size, requires_grad=True)

    outputs = dict.fromkeys(("sub8", "sub16"), torch.zeros(2, 4, 1, 1))
    ICNet(4, -1)({"sub4": logits, **outputs}, target)["sub4"].backward()

    expected = F.interpolate(target[:, None].float(), size, mode="nearest")[:, 0].long()
    assert logits.grad is not None
    found = torch.where((logits.grad < 0).any(1), logits.grad.argmin(1), -1)
    assert torch.equal(found, expected)


def test_icnet_weights_are_options_and_a_level_without_labels_costs_nothing() -> None:
    outputs = {"sub4": pixels(UNSURE, UNSURE), "sub8": pixels(UNSURE), "sub16": pixels(UNSURE)}

    terms = ICNet(2, sub4_weight=0.16, sub8_weight=0.4, sub16_weight=1.0)(outputs, classes(IGNORED, 1))

    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"sub4": 0.16 * log(2), "sub8": 0.0, "sub16": 0.0}
    )


def test_icnet_trains_the_output_that_is_evaluated() -> None:
    with pytest.raises(ConfigError, match=r"loss\.sub4_weight: 0 would leave"):
        ICNet(2, sub4_weight=0)
    ICNet(2, sub8_weight=0, sub16_weight=0)


def test_icnet_without_its_auxiliary_outputs_has_one_term_and_without_the_main_one_none() -> None:
    terms = ICNet(2)({"out": pixels(SURE), "sub4": pixels(UNSURE)}, classes(1))

    assert {name: term.item() for name, term in terms.items()} == pytest.approx({"sub4": log(2)})
    with pytest.raises(PluginError, match=r"this model returned no sub4"):
        ICNet(2)({"out": pixels(SURE), "sub8": pixels(SURE)}, classes(1))


def test_encnet_asks_of_each_image_which_classes_it_shows() -> None:
    # The first image shows classes 0 and 2 (class 2 in a single pixel), the second only ignored pixels.
    target = torch.tensor([[[0, 0, 2, IGNORED]], [[IGNORED] * 4]])
    presence = torch.tensor([[log(3), 0.0, -log(3)], [0.0, 0.0, log(3)]], requires_grad=True)
    outputs = {"out": torch.zeros(2, 3, 1, 4), "se": presence}

    terms = EncNet(3, se_weight=0.5)(outputs, target)
    terms["se"].backward()

    # -log sigmoid(ln 3) = log(4/3); of a class that is not shown -log(1 - sigmoid(x)).
    expected = [log(4 / 3), log(2), log(4), log(2), log(2), log(4)]
    assert terms["se"].item() == pytest.approx(0.5 * sum(expected) / 6)
    assert presence.grad is not None
    assert torch.equal(presence.grad < 0, torch.tensor([[True, False, True], [False, False, False]]))


def test_encnet_on_a_batch_without_a_labelled_pixel_costs_nothing() -> None:
    presence = torch.randn(1, 2, requires_grad=True)

    terms = EncNet(2)({"out": pixels(SURE), "se": presence}, classes(IGNORED))
    sum(terms.values()).backward()

    assert [term.item() for term in terms.values()] == [0, 0]
    assert presence.grad is not None
    assert not presence.grad.any()


def test_encnet_is_cross_entropy_for_the_maps() -> None:
    outputs = {"out": pixels(SURE), "aux": pixels(UNSURE), "se": torch.zeros(1, 2)}

    terms = EncNet(2, class_weights=[1.0, 3.0])(outputs, classes(1))

    assert terms["out"].item() == pytest.approx(log(4 / 3))
    assert terms["aux"].item() == pytest.approx(0.4 * log(2))
    assert terms["se"].item() == pytest.approx(0.2 * log(2))
