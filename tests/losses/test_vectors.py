"""Every loss against the reference vectors: in float32, through the public classes, to 1e-5."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from segctl_losses.dice import Dice
from segctl_losses.encnet import EncNet
from segctl_losses.focal import Focal
from segctl_losses.icnet import ICNet
from segctl_losses.lovasz import Lovasz
from segctl_losses.ohem import OHEM

TOLERANCE = 1e-5

# The vectors ignore -1; other values must do as well.
IGNORED = [-1, 255, -100]


def total(terms: dict[str, Tensor]) -> float:
    value = sum(terms.values())
    assert value.dtype == torch.float32
    return value.item()


def relabelled(label: Tensor, ignore_index: int) -> Tensor:
    return torch.where(label == -1, ignore_index, label)


@pytest.mark.parametrize("ignore_index", IGNORED)
@pytest.mark.parametrize(
    "case", ["thresh_binds", "min_kept_binds", "min_kept_exceeds_valid", "low_thresh", "topk_no_thresh"]
)
def test_ohem(reference_vectors: dict[str, Any], case: str, ignore_index: int) -> None:
    vectors = reference_vectors["ohem"]
    expected = vectors["cases"][case]
    threshold = expected["thresh"] if expected["use_thresh"] else None
    loss = OHEM(5, ignore_index, threshold=threshold, min_kept=expected["min_kept"])
    logits = vectors["logits"].clone().requires_grad_()

    value = loss(logits, relabelled(vectors["label"], ignore_index))["out"]
    value.backward()

    assert value.item() == pytest.approx(expected["loss_mean_kept"], rel=TOLERANCE)
    # The other reductions differ in the divisor alone: by the labelled pixels, or by all.
    kept = int(expected["n_kept"])
    assert value.item() * kept / vectors["n_valid"] == pytest.approx(expected["loss_mean_non_ignored"], rel=TOLERANCE)
    assert value.item() * kept / vectors["label"].numel() == pytest.approx(
        expected["loss_mean_all_pixels"], rel=TOLERANCE
    )
    assert logits.grad is not None
    assert torch.equal(logits.grad.abs().sum(1) > 0, expected["seg_weight"] > 0)


@pytest.mark.parametrize("ignore_index", IGNORED)
def test_encnet(reference_vectors: dict[str, Any], ignore_index: int) -> None:
    vectors = reference_vectors["encnet_se"]
    outputs = {"out": vectors["pred"], "se": vectors["se_logits"], "aux": vectors["aux"]}
    expected, target = vectors["expected"], relabelled(vectors["label"], ignore_index)

    terms = EncNet(7, ignore_index)(outputs, target)

    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"out": expected["ce_main"], "se": 0.2 * expected["se_loss"], "aux": 0.4 * expected["ce_aux"]}, rel=TOLERANCE
    )
    assert total(terms) == pytest.approx(expected["total_se_aux"], rel=TOLERANCE)
    del outputs["aux"]
    assert total(EncNet(7, ignore_index)(outputs, target)) == pytest.approx(expected["total_se"], rel=TOLERANCE)


@pytest.mark.parametrize("ignore_index", IGNORED)
@pytest.mark.parametrize("size", ["32x48", "33x50_odd"])
def test_icnet(reference_vectors: dict[str, Any], size: str, ignore_index: int) -> None:
    vectors = reference_vectors["icnet"]["cases"][size]
    outputs = {name: vectors[name] for name in ("sub4", "sub8", "sub16")}
    outputs["out"] = torch.full((1,), torch.nan)  # the full resolution has no term

    terms = ICNet(5, ignore_index)(outputs, relabelled(vectors["label"], ignore_index))

    expected = vectors["expected"]
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"sub4": expected["ce_sub4"], "sub8": 0.4 * expected["ce_sub8"], "sub16": 0.4 * expected["ce_sub16"]},
        rel=TOLERANCE,
    )
    assert total(terms) == pytest.approx(expected["total"], rel=TOLERANCE)


@pytest.mark.parametrize("ignore_index", IGNORED)
@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"gamma": 2.0}, "softmax_gamma2"),
        ({"gamma": 1.5}, "softmax_gamma1p5"),
        ({"gamma": 0.0}, "softmax_gamma0"),
        ({"activation": "sigmoid"}, "smp_multiclass_ovr_gamma2"),
        ({"activation": "sigmoid", "alpha": 0.25}, "smp_multiclass_ovr_gamma2_alpha025"),
    ],
)
def test_focal(reference_vectors: dict[str, Any], options: dict[str, Any], name: str, ignore_index: int) -> None:
    vectors = reference_vectors["focal"]

    terms = Focal(5, ignore_index, **options)(vectors["logits"], relabelled(vectors["label"], ignore_index))

    assert total(terms) == pytest.approx(vectors["expected"][name], rel=TOLERANCE)


@pytest.mark.parametrize(("alpha", "name"), [(0.25, "binary_gamma2_alpha025"), (None, "binary_gamma2")])
def test_focal_of_two_classes_in_one_map(reference_vectors: dict[str, Any], alpha: float | None, name: str) -> None:
    """RetinaNet's form: one logit, positive or not. The only class of the map is class 0, which positives get."""
    vectors = reference_vectors["focal"]
    label = vectors["binary_label"][:, 0]
    target = torch.where(label == -1, -1, 1 - label)

    terms = Focal(1, -1, activation="sigmoid", alpha=alpha)(vectors["binary_logits"], target)

    assert total(terms) == pytest.approx(vectors["expected"][name], rel=TOLERANCE)


@pytest.mark.parametrize("ignore_index", IGNORED)
@pytest.mark.parametrize(("smooth", "case"), [(0.0, "expected"), (1.0, "expected_smooth1")])
@pytest.mark.parametrize(("average", "name"), [("all", "loss_mean_all_classes"), ("present", "loss_mean_present")])
def test_dice(
    reference_vectors: dict[str, Any], smooth: float, case: str, average: Any, name: str, ignore_index: int
) -> None:
    vectors = reference_vectors["dice"]

    terms = Dice(5, ignore_index, smooth=smooth, average=average)(
        vectors["logits"], relabelled(vectors["label"], ignore_index)
    )

    assert total(terms) == pytest.approx(vectors[case][name], rel=TOLERANCE)


@pytest.mark.parametrize("ignore_index", IGNORED)
@pytest.mark.parametrize(("per_image", "name"), [(False, "batch"), (True, "per_image")])
def test_lovasz(reference_vectors: dict[str, Any], per_image: bool, name: str, ignore_index: int) -> None:
    vectors = reference_vectors["lovasz_softmax"]

    terms = Lovasz(5, ignore_index, per_image=per_image)(vectors["logits"], relabelled(vectors["label"], ignore_index))

    assert total(terms) == pytest.approx(vectors["expected"][name], rel=TOLERANCE)
