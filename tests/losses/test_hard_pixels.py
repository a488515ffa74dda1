"""OHEM and focal loss, on rows of pixels whose probabilities are known."""

from __future__ import annotations

from math import log

import pytest
import torch
from rows import IGNORED, SURE, UNSURE, classes, pixels

from segctl_losses.focal import Focal
from segctl_losses.ohem import OHEM

# Probabilities of the true class: 3/4, 1/4, 1/2, and an ignored pixel that would be the hardest.
ROW = pixels(SURE, SURE, UNSURE, (0.0, 100.0))
TRUTH = classes(1, 0, 0, IGNORED)
LOSSES = {"sure": log(4 / 3), "wrong": log(4), "unsure": log(2)}


@pytest.mark.parametrize(
    ("threshold", "min_kept", "kept"),
    [
        (0.6, 1, ["wrong", "unsure"]),
        (0.3, 1, ["wrong"]),
        # The bound is strict, and raised to the probability that follows the two smallest, 3/4.
        (0.3, 2, ["wrong", "unsure"]),
        # More are wanted than there are labelled pixels: the bound is the largest probability, 3/4.
        (0.3, 3, ["wrong", "unsure"]),
        (0.3, 100, ["wrong", "unsure"]),
        (0.76, 100, ["wrong", "unsure", "sure"]),
        (None, 1, ["wrong"]),
        (None, 2, ["wrong", "unsure"]),
        (None, 100, ["wrong", "unsure", "sure"]),
    ],
)
def test_ohem_is_the_mean_over_the_pixels_that_it_keeps(
    threshold: float | None, min_kept: int, kept: list[str]
) -> None:
    loss = OHEM(2, threshold=threshold, min_kept=min_kept)(ROW, TRUTH)["out"]

    assert loss.item() == pytest.approx(sum(LOSSES[name] for name in kept) / len(kept))


@pytest.mark.parametrize(("threshold", "expected"), [(0.3, 0.0), (None, log(2))])
def test_ohem_with_a_threshold_keeps_none_of_equal_pixels_at_the_bound(
    threshold: float | None, expected: float
) -> None:
    """All have the probability 1/2, which the bound of 0.3 is raised to; without a threshold there is no bound."""
    loss = OHEM(2, threshold=threshold, min_kept=2)(pixels(UNSURE, UNSURE, UNSURE, UNSURE), classes(0, 1, 0, 1))["out"]

    assert loss.item() == pytest.approx(expected)


def test_ohem_keeps_as_many_for_each_image_of_the_batch() -> None:
    logits, target = ROW.repeat(2, 1, 1, 1), TRUTH.repeat(2, 1, 1)
    logits[1, :, 0, :3] = 0  # all of the second image is unsure

    loss = OHEM(2, threshold=None, min_kept=1)(logits, target)["out"]

    # Of both images together the two hardest: the first image's wrong pixel, and one of those with 1/2.
    assert loss.item() == pytest.approx((log(4) + log(2)) / 2)


def test_ohem_weighs_what_it_keeps_but_not_what_is_hard() -> None:
    loss = OHEM(2, threshold=0.8, class_weights=[0.1, 1.0])(ROW, TRUTH)["out"]

    # The most certain pixel is the last that could be kept: bound 0.8 is above its 3/4.
    assert loss.item() == pytest.approx((0.1 * log(4) + 0.1 * log(2) + 1.0 * log(4 / 3)) / 1.2)


def test_ohem_pushes_only_what_it_keeps() -> None:
    logits = ROW.clone().requires_grad_()

    OHEM(2, threshold=0.3, min_kept=1)(logits, TRUTH)["out"].backward()

    assert logits.grad is not None
    assert logits.grad.abs().sum(1).flatten().bool().tolist() == [False, True, False, False]


def test_ohem_on_one_certain_pixel_is_zero() -> None:
    """It is itself the bound, below which nothing lies."""
    assert OHEM(2)(pixels(SURE), classes(1))["out"].item() == 0


def test_focal_weighs_by_the_missing_probability() -> None:
    loss = Focal(2, gamma=2)(ROW, TRUTH)["out"]

    assert loss.item() == pytest.approx(((1 / 4) ** 2 * log(4 / 3) + (3 / 4) ** 2 * log(4) + (1 / 2) ** 2 * log(2)) / 3)


def test_focal_with_class_weights_is_the_weighted_mean() -> None:
    loss = Focal(2, gamma=1, class_weights=[3.0, 1.0])(ROW, TRUTH)["out"]

    assert loss.item() == pytest.approx((1 / 4 * log(4 / 3) + 3 * 3 / 4 * log(4) + 3 * 1 / 2 * log(2)) / 7)


def test_focal_with_sigmoid_tells_each_class_from_the_rest() -> None:
    # Sigmoids of 0 and ln 3 are 1/2 and 3/4; the pixel belongs to class 1.
    loss = Focal(2, activation="sigmoid", gamma=2, alpha=0.25)(pixels(SURE, UNSURE), classes(1, IGNORED))["out"]

    other, own = 0.75 * (1 / 2) ** 2 * log(2), 0.25 * (1 / 4) ** 2 * log(4 / 3)
    assert loss.item() == pytest.approx((other + own) / 2)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_focal_on_certain_and_ignored_pixels_has_a_finite_gradient(gamma: float, activation: str) -> None:
    """Where 1 - p is 0, a power below 1 has an infinite derivative."""
    logits = pixels((0.0, 200.0), (200.0, 0.0), (0.0, 200.0)).requires_grad_()

    loss = Focal(2, gamma=gamma, activation=activation)(logits, classes(1, 1, IGNORED))["out"]
    loss.backward()

    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not logits.grad[..., 2].any()


def test_focal_gradient_flows_through_the_weight() -> None:
    logits = pixels(SURE, UNSURE).double().requires_grad_()

    assert torch.autograd.gradcheck(lambda x: Focal(2, gamma=1.5)(x, classes(1, 0))["out"], logits)
