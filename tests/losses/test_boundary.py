"""The boundary loss, on halves of an image whose boundaries are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from segctl_losses.boundary import Boundary

IGNORED = 255


def halves(column: int, *, width: int = 16, height: int = 4) -> Tensor:
    """Class 0 left of the column, class 1 from it on: (1, H, W)."""
    return (torch.arange(width) >= column).long().expand(1, height, width).clone()


def certain(classes: Tensor) -> Tensor:
    return 1000.0 * torch.nn.functional.one_hot(classes, 2).movedim(-1, 1)


def loss(predicted: Tensor, target: Tensor, **options: int) -> float:
    return Boundary(2, **options)(certain(predicted), target)["out"].item()


def test_boundaries_that_lie_within_the_tolerance_cost_nothing() -> None:
    # A window of 5 reaches 2 pixels to each side.
    assert [loss(halves(8 + shift), halves(8)) for shift in (-2, -1, 0, 1, 2)] == pytest.approx([0] * 5, abs=1e-6)
    assert loss(halves(11), halves(8)) == pytest.approx(1)
    assert loss(halves(11), halves(8), tolerance=7) == pytest.approx(0, abs=1e-6)


def test_precision_and_recall() -> None:
    # Columns 2 and 3 are taken for class 1 as well: of its predicted boundary (columns 2, 3 and 8) one third is right,
    # of class 0's (columns 1, 4 and 7) too. All of the true boundary is found.
    predicted = halves(8)
    predicted[..., 2:4] = 1

    f1 = 2 * (1 / 3) / (1 / 3 + 1)
    assert loss(predicted, halves(8)) == pytest.approx(1 - f1)


def test_a_boundary_that_is_missed_altogether_costs_one() -> None:
    assert loss(halves(16), halves(8)) == pytest.approx(1)


def test_half_a_probability_is_half_a_boundary() -> None:
    # Class 1 has 1/2 left of the column and 1 from it on: its boundary counts 1/2 at column 8 and so does class 0's at
    # column 7, of 4 rows: precision 1, recall 1/2.
    logits = certain(halves(8))
    logits[..., :8] = 0

    assert Boundary(2)(logits, halves(8))["out"].item() == pytest.approx(1 - 2 * 0.5 / 1.5)


def test_a_class_ends_where_ignored_pixels_begin() -> None:
    """As at the objects of PASCAL VOC, which a band of ignored pixels parts."""
    target = halves(8)
    target[..., 6:10] = IGNORED

    # The boundaries are columns 5 and 10, whatever is predicted between them.
    assert [loss(halves(column), target) for column in (6, 8, 10)] == pytest.approx([0, 0, 0], abs=1e-6)
    # Class 1 from column 3 on: its boundary is predicted at columns 3, 5 and 10, of which 10 is right; class 0's at 2,
    # while the true one at 5 is missed.
    f1 = 2 * (1 / 3) * 1 / (1 / 3 + 1)
    assert loss(halves(3), target, tolerance=3) == pytest.approx(1 - (0 + f1) / 2)


def test_only_labelled_pixels_lie_on_a_boundary() -> None:
    target = halves(8)
    target[..., 8:] = IGNORED

    # Class 0 ends at column 7, which is right, and class 1 does not occur.
    assert loss(halves(8), target) == pytest.approx(0, abs=1e-6)
    assert loss(halves(12), target) == pytest.approx(0, abs=1e-6)


def test_only_classes_with_a_boundary_count_and_each_image_for_itself() -> None:
    target = torch.cat([halves(8), halves(16)])  # the second image shows class 0 alone
    predicted = torch.cat([halves(11), halves(4)])

    assert loss(predicted, target) == pytest.approx(1)
    assert loss(predicted[1:], target[1:]) == 0


def test_class_weights() -> None:
    # Classes 0, 1 and 2 side by side; the boundary of 0 and 1 is right, that of 2 is not.
    columns = torch.arange(24)
    target = ((columns >= 8).long() + (columns >= 16)).expand(1, 4, 24)
    predicted = ((columns >= 8).long() + (columns >= 20)).expand(1, 4, 24)
    logits = 1000.0 * torch.nn.functional.one_hot(predicted, 3).movedim(-1, 1)

    of_class = [
        Boundary(3, class_weights=[float(index == chosen) for index in range(3)])(logits, target)["out"].item()
        for chosen in range(3)
    ]

    # Class 1's boundaries are columns 8 and 15 in truth, 8 and 19 as predicted: precision and recall 1/2.
    assert of_class == pytest.approx([0, 0.5, 1], abs=1e-6)
    weighted = Boundary(3, class_weights=[1.0, 2.0, 5.0])(logits, target)["out"].item()
    assert weighted == pytest.approx((0 + 2 * 0.5 + 5 * 1) / 8, abs=1e-6)


@pytest.mark.parametrize("logits", [torch.zeros(1, 2, 8, 8), torch.full((1, 2, 8, 8), 1e-4), torch.randn(1, 2, 8, 8)])
def test_a_prediction_without_a_boundary_has_no_giant_gradient(logits: Tensor) -> None:
    logits = logits.clone().requires_grad_()

    Boundary(2)(logits, halves(4, width=8, height=8))["out"].backward()

    assert logits.grad is not None
    assert logits.grad.abs().max() < 1
