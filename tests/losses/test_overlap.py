"""Dice, Tversky and Lovász: against shares worked out by hand, and against the paper's algorithm, step by step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rows import IGNORED, SURE, UNSURE, classes, pixels

from segctl_losses.dice import Dice
from segctl_losses.lovasz import Lovasz
from segctl_losses.tversky import Tversky

# Probabilities of (class 0, class 1): (1/4, 3/4), (1/4, 3/4), (1/2, 1/2); the truth is 1, 0, 0.
ROW = pixels(SURE, SURE, UNSURE, (0.0, 100.0))
TRUTH = classes(1, 0, 0, IGNORED)


def test_dice() -> None:
    # Class 0: 2 * (1/4 + 1/2) / (1 + 2) = 1/2; class 1: 2 * 3/4 / (2 + 1) = 1/2.
    assert Dice(2)(ROW, TRUTH)["out"].item() == pytest.approx(1 / 2)
    # With s = 1: (3/4 + 1) / (3/2 + 1) for both.
    assert Dice(2, smooth=1.0)(ROW, TRUTH)["out"].item() == pytest.approx(1 - 7 / 10)


def test_tversky() -> None:
    # Class 0: TP 3/4, FP 1/4, FN 5/4; class 1: TP 3/4, FP 5/4, FN 1/4.
    first, second = 0.75 / (0.75 + 0.2 * 0.25 + 0.6 * 1.25), 0.75 / (0.75 + 0.2 * 1.25 + 0.6 * 0.25)
    loss = Tversky(2, alpha=0.2, beta=0.6)(ROW, TRUTH)["out"].item()

    assert loss == pytest.approx(1 - (first + second) / 2)
    weighted = Tversky(2, alpha=0.2, beta=0.6, class_weights=[3.0, 1.0])(ROW, TRUTH)["out"].item()
    assert weighted == pytest.approx(1 - (3 * first + second) / 4)


def test_tversky_is_dice_or_jaccard_at_certain_weights() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 4, 7, 9), torch.randint(4, (2, 7, 9))

    assert Tversky(4, alpha=0.5, beta=0.5, smooth=1.0)(logits, target) == Dice(4, smooth=1.0)(logits, target)
    # Class 0 of ROW: the intersection is 3/4, the union 3/4 + 1/4 + 5/4.
    jaccard = Tversky(2, alpha=1.0, beta=1.0, class_weights=[1.0, 0.0])(ROW, TRUTH)["out"].item()
    assert jaccard == pytest.approx(1 - 0.75 / 2.25)


def test_absent_classes_cost_nothing_and_count_only_if_asked() -> None:
    row = pixels((*SURE, -200.0), (*SURE, -200.0), (*UNSURE, -200.0))

    assert Dice(3)(row, classes(1, 0, 0))["out"].item() == pytest.approx(1 / 2)
    assert Dice(3, average="all")(row, classes(1, 0, 0))["out"].item() == pytest.approx(1 / 3)
    assert Lovasz(3)(row, classes(1, 0, 0)) == Lovasz(2)(ROW[..., :3], classes(1, 0, 0))


def test_sums_over_many_pixels_are_exact() -> None:
    """A sum in half precision would stop at 2048 pixels, in bfloat16 at 256."""
    logits = torch.zeros(1, 2, 512, 512, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = Dice(2)(logits, torch.zeros(1, 512, 512, dtype=torch.int64))["out"]

    # I = P/2, O = P/2, T = P: 1 - 2 (1/2) / (1/2 + 1).
    assert loss.item() == pytest.approx(1 / 3, rel=1e-6)


# ---- Lovász


def test_lovasz_of_certain_predictions_is_one_minus_the_mean_iou() -> None:
    """The extension agrees with the set function at its corners (section 2.2)."""
    torch.manual_seed(0)
    predicted, target = torch.randint(4, (2, 9, 11)), torch.randint(4, (2, 9, 11))
    logits = 1000.0 * torch.nn.functional.one_hot(predicted, 4).movedim(-1, 1)

    ious = [
        ((predicted == c) & (target == c)).sum().item() / ((predicted == c) | (target == c)).sum().item()
        for c in range(4)
    ]
    assert Lovasz(4)(logits, target)["out"].item() == pytest.approx(1 - sum(ious) / 4, rel=1e-6)


def test_lovasz_of_one_pixel() -> None:
    # Class 1 alone occurs; its error is 1 - 3/4, and the Jaccard loss rises from 0 to 1.
    assert Lovasz(2)(pixels(SURE), classes(1))["out"].item() == pytest.approx(1 / 4)


def algorithm_1(probabilities: np.ndarray, target: np.ndarray) -> float:
    """The paper's, for each class that occurs, with the Jaccard loss counted anew after every pixel."""
    losses = []
    for c in np.unique(target):
        truth = target == c
        errors = np.where(truth, 1 - probabilities[c], probabilities[c])
        wrong: set[int] = set()
        loss, before = 0.0, 0.0
        for pixel in np.argsort(-errors, kind="stable"):
            wrong.add(int(pixel))
            mispredicted = np.isin(np.arange(len(target)), list(wrong))
            jaccard_loss = mispredicted.sum() / (truth | mispredicted).sum()
            loss += errors[pixel] * (jaccard_loss - before)
            before = jaccard_loss
        losses.append(loss)
    return float(np.mean(losses))


@pytest.mark.parametrize("per_image", [False, True])
def test_lovasz_is_the_algorithm_of_the_paper(per_image: bool) -> None:
    torch.manual_seed(0)
    logits, target = 2 * torch.randn(2, 6, 5, 7).double(), torch.randint(5, (2, 5, 7))  # class 5 does not occur
    target[0, :2], target[1, 3] = IGNORED, IGNORED
    probabilities = logits.softmax(1).movedim(1, -1)

    sets = [[0], [1]] if per_image else [[0, 1]]
    expected = np.mean(
        [
            algorithm_1(probabilities[images][valid].T.numpy(), target[images][valid].numpy())
            for images in sets
            for valid in [target[images] != IGNORED]
        ]
    )

    assert Lovasz(6, per_image=per_image)(logits, target)["out"].item() == pytest.approx(expected, rel=1e-12)


def test_lovasz_leaves_out_images_without_a_labelled_pixel() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    target[1] = IGNORED

    both = Lovasz(3, per_image=True)(logits, target)["out"]

    torch.testing.assert_close(both, Lovasz(3)(logits[:1], target[:1])["out"])


def test_lovasz_does_not_lose_small_differences_among_many_pixels() -> None:
    """Neighbouring values of the Jaccard loss differ by little more than float32 can tell."""
    torch.manual_seed(0)
    logits, target = torch.randn(1, 2, 512, 512), torch.randint(2, (1, 512, 512))

    single, double = (Lovasz(2)(each, target)["out"].item() for each in (logits, logits.double()))

    assert single == pytest.approx(double, rel=1e-5)
