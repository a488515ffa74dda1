"""Cross entropy against values worked out by hand, and against the reference vectors where they are at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log
from typing import Any

import pytest
import torch
from rows import IGNORED, SURE, UNSURE, classes, pixels
from torch import Tensor

from segctl import registry
from segctl.config.schema import Plugin
from segctl.errors import ConfigError, PluginError
from segctl_losses.cross_entropy import CrossEntropy


def test_is_the_mean_over_the_pixels_that_are_not_ignored() -> None:
    loss = CrossEntropy(2)(pixels(SURE, UNSURE, SURE), classes(1, 0, IGNORED))

    assert list(loss) == ["out"]
    assert loss["out"].shape == ()
    assert loss["out"].item() == pytest.approx((log(4 / 3) + log(2)) / 2)


def test_the_gradient_is_softmax_minus_the_truth_over_the_valid_pixels() -> None:
    logits = pixels(SURE, UNSURE, SURE).requires_grad_()

    CrossEntropy(2)(logits, classes(1, 0, IGNORED))["out"].backward()

    expected = pixels((0.25 / 2, (0.75 - 1) / 2), ((0.5 - 1) / 2, 0.5 / 2), (0.0, 0.0))
    torch.testing.assert_close(logits.grad, expected)


def test_class_weights_give_the_weighted_mean() -> None:
    loss = CrossEntropy(2, class_weights=[1.0, 3.0])(pixels(SURE, UNSURE, SURE), classes(1, 0, IGNORED))

    assert loss["out"].item() == pytest.approx((3 * log(4 / 3) + 1 * log(2)) / 4)


def test_label_smoothing_spreads_probability_over_all_classes() -> None:
    loss = CrossEntropy(2, label_smoothing=0.2)(pixels(SURE), classes(1))

    assert loss["out"].item() == pytest.approx(-0.9 * log(3 / 4) - 0.1 * log(1 / 4))


def test_every_further_map_of_logits_is_auxiliary_and_nothing_else_is() -> None:
    outputs = {
        "out": pixels(SURE),
        "aux": pixels(UNSURE),
        "middle": pixels(SURE),
        "se": torch.zeros(1, 2),
        "features": torch.zeros(1, 64, 1, 1),
    }

    loss = CrossEntropy(2)(outputs, classes(1))

    assert {name: term.item() for name, term in loss.items()} == pytest.approx(
        {"out": log(4 / 3), "aux": 0.4 * log(2), "middle": 0.4 * log(4 / 3)}
    )


def test_the_auxiliary_weight_is_an_option_and_zero_still_reaches_the_head() -> None:
    """With no gradient at all, distributed training would stop at the head's unused parameters."""
    aux = pixels(UNSURE).requires_grad_()

    terms = CrossEntropy(2, aux_weight=0.0)({"out": pixels(SURE), "aux": aux}, classes(1))
    sum(terms.values()).backward()

    assert terms["aux"].item() == 0
    assert aux.grad is not None
    assert not aux.grad.any()


def test_smaller_logits_are_enlarged_and_labels_stay_as_they_are() -> None:
    # Bilinear, corners not aligned: 2 columns (0, 4) become 4 columns (0, 1, 3, 4).
    small = torch.tensor([[[[0.0, 0.0]], [[0.0, 4.0]]]]).requires_grad_()
    target = classes(1, 1, 1, 1)

    loss = CrossEntropy(2)(small, target)["out"]

    enlarged = [0.0, 1.0, 3.0, 4.0]
    assert loss.item() == pytest.approx(sum(log(1 + 2.718281828459045**-z) for z in enlarged) / 4, rel=1e-6)


@pytest.mark.parametrize("options", [{}, {"class_weights": [1.0, 2.0]}, {"label_smoothing": 0.1}])
@pytest.mark.parametrize("target", [classes(IGNORED, IGNORED), classes(IGNORED, IGNORED).repeat(1, 2, 1)])
def test_a_batch_without_a_labelled_pixel_gives_zero_and_no_push(options: dict[str, Any], target: Tensor) -> None:
    logits = pixels(SURE, UNSURE).requires_grad_()

    terms = CrossEntropy(2, **options)({"out": logits, "aux": 2 * logits}, target)
    sum(terms.values()).backward()

    assert [term.item() for term in terms.values()] == [0, 0]
    assert logits.grad is not None
    assert logits.grad.tolist() == torch.zeros_like(logits).tolist()


def test_a_batch_of_a_class_without_weight_gives_zero_too() -> None:
    logits = pixels(SURE).requires_grad_()

    loss = CrossEntropy(2, class_weights=[0.0, 1.0])(logits, classes(0))["out"]
    loss.backward()

    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_label_smoothing_gives_pixels_of_a_class_without_weight_no_influence() -> None:
    """Their smoothed truth has some of the other classes, whose weight no pixel would divide."""
    logits = torch.zeros(1, 3, 64, 64, requires_grad=True)
    loss = CrossEntropy(3, class_weights=[0.0, 1.0, 1.0], label_smoothing=0.1)

    of_none = loss(logits, torch.zeros(1, 64, 64, dtype=torch.int64))["out"]
    of_none.backward()

    assert of_none.item() == 0
    assert logits.grad is not None
    assert logits.grad.tolist() == torch.zeros_like(logits).tolist()

    target = torch.zeros(1, 64, 64, dtype=torch.int64)
    target[0, 0, 0] = 1
    # That pixel alone: 0.9 + 0.1 / 3 for its class, 0.1 / 3 for class 2, nothing for class 0; all have 1 / 3.
    assert loss(logits, target)["out"].item() == pytest.approx((0.9 + 2 * 0.1 / 3) * log(3))


def test_is_computed_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 64, 64).bfloat16()
    target = torch.randint(5, (2, 64, 64))
    exact = torch.nn.functional.cross_entropy(logits.double(), target).item()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = CrossEntropy(5)({"out": logits, "aux": logits[..., ::2, ::2]}, target)

    assert loss["out"].dtype == loss["aux"].dtype == torch.float32
    assert loss["out"].item() == pytest.approx(exact, rel=1e-6)


def test_changes_neither_outputs_nor_target() -> None:
    outputs, target = {"out": pixels(SURE, UNSURE), "aux": pixels(UNSURE, SURE)}, classes(1, IGNORED)
    before = {name: value.clone() for name, value in outputs.items()}, target.clone()

    CrossEntropy(2, class_weights=[1.0, 2.0], label_smoothing=0.1)(outputs, target)

    torch.testing.assert_close((outputs, target), before, rtol=0, atol=0)


@pytest.mark.parametrize("options", [{}, {"class_weights": [1.0, 3.0], "label_smoothing": 0.1}])
def test_compiles_into_one_graph(options: dict[str, Any]) -> None:
    """Which also shows that nothing waits for the device: reading a value off a tensor would break the graph."""
    outputs, target = {"out": pixels(SURE, UNSURE), "aux": pixels(UNSURE, SURE)}, classes(1, IGNORED)
    loss = CrossEntropy(2, **options)

    compiled = torch.compile(loss, fullgraph=True, backend="eager")

    torch.testing.assert_close(compiled(outputs, target), loss(outputs, target))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weights": [1.0, 2.0]}, "2 weights are given, but the data set has 3 classes"),
        ({"class_weights": [1.0, -2.0, 1.0]}, "the weight of class 1 is -2"),
        ({"class_weights": [1.0, 2.0, float("nan")]}, "the weight of class 2 is nan"),
        ({"class_weights": [0.0, 0.0, 0.0]}, "all weights are 0"),
        ({"class_weights": "enet"}, "computed from the training masks"),
        ({"class_weights": "inverse"}, "inverse_frequency, median_frequency, enet and erfnet"),
        ({"label_smoothing": 1.0}, "label_smoothing: 1 is not"),
        ({"label_smoothing": float("nan")}, "label_smoothing: nan is not"),
        ({"aux_weight": -0.4}, "aux_weight: -0.4 is not"),
        ({"aux_weight": float("inf")}, "aux_weight: inf is not"),
    ],
)
def test_refuses_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CrossEntropy(3, **options)


def test_refuses_outputs_that_break_the_contract() -> None:
    with pytest.raises(PluginError, match="returned main and aux, but no 'out'"):
        CrossEntropy(2)({"main": pixels(SURE), "aux": pixels(SURE)}, classes(1))
    with pytest.raises(PluginError, match=r"\(1, 2, 1, 1\); for 3 classes it must be \(N, 3, H, W\)"):
        CrossEntropy(3)(pixels(SURE), classes(1))


def test_a_checkpoint_does_not_hold_the_class_weights() -> None:
    assert not CrossEntropy(2, class_weights=[1.0, 2.0]).state_dict()


# ---- as segctl makes it: by name, with options from a configuration


def create(options: dict[str, Any], class_pixels: Callable[[], Sequence[int]]) -> Any:
    plugin = registry.resolve_plugin("losses", Plugin(name="cross_entropy", options=options))
    return registry.create_loss(plugin, num_classes=2, ignore_index=IGNORED, class_pixels=class_pixels)


def test_training_masks_are_counted_only_for_a_scheme() -> None:
    def count() -> Sequence[int]:
        raise AssertionError("reads every mask of the training split")

    for options in ({}, {"class_weights": [1, 3]}, {"class_weights": None}):
        create(options, count)
    with pytest.raises((AssertionError, PluginError), match="reads every mask"):
        create({"class_weights": "enet"}, count)


def test_a_scheme_weighs_by_the_training_masks() -> None:
    loss = create({"class_weights": "inverse_frequency"}, lambda: [75, 25])

    terms = loss(pixels(SURE, UNSURE), classes(1, 0))

    common, rare = 1 / (2 * 0.75), 1 / (2 * 0.25)
    assert terms["out"].item() == pytest.approx((rare * log(4 / 3) + common * log(2)) / (rare + common))


def test_a_misspelt_scheme_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"loss\.class_weights.*median_frequency"):
        create({"class_weights": "median_frequencies"}, lambda: [1, 1])


# ---- the reference vectors: computed in float64 by an independent method


@pytest.fixture
def vectors(reference_vectors: dict[str, Any]) -> dict[str, Any]:
    return dict(reference_vectors["ce_aux"])


def named(vectors: dict[str, Any]) -> dict[str, Tensor]:
    return {name: logits.clone() for name, logits in zip(("out", "aux", "aux1"), vectors["outputs"], strict=True)}


@pytest.mark.parametrize(("label", "ignore_index"), [("label", -1), ("label_255", 255)])
def test_reference_total(vectors: dict[str, Any], label: str, ignore_index: int) -> None:
    loss, outputs, target = CrossEntropy(5, ignore_index), named(vectors), vectors[label]
    expected = vectors["expected"]

    main, aux, aux1 = expected["per_output"]
    terms = {name: term.item() for name, term in loss(outputs, target).items()}
    assert terms == pytest.approx({"out": main, "aux": 0.4 * aux, "aux1": 0.4 * aux1}, rel=1e-6)
    assert sum(terms.values()) == pytest.approx(expected["total"], rel=1e-6)
    del outputs["aux1"]
    assert sum(loss(outputs, target).values()).item() == pytest.approx(expected["total_one_aux"], rel=1e-6)
    assert loss(outputs["out"], target)["out"].item() == pytest.approx(expected["total_main_only"], rel=1e-6)


def test_reference_gradients(vectors: dict[str, Any]) -> None:
    outputs = {name: logits.double().requires_grad_() for name, logits in named(vectors).items()}

    sum(CrossEntropy(5, -1)(outputs, vectors["label"]).values()).backward()

    torch.testing.assert_close(outputs["out"].grad, vectors["expected"]["grad_main"])
    torch.testing.assert_close(outputs["aux"].grad, vectors["expected"]["grad_aux1"])


def test_reference_class_weights(vectors: dict[str, Any]) -> None:
    loss = CrossEntropy(5, -1, class_weights=vectors["class_weight"].tolist())

    total = sum(loss(named(vectors), vectors["label"]).values()).item()

    assert total == pytest.approx(vectors["expected_class_weight"]["total"], rel=1e-6)


def test_reference_all_ignored(vectors: dict[str, Any]) -> None:
    terms = CrossEntropy(5, -1)(named(vectors), vectors["all_ignored"]["label"])

    assert sum(terms.values()).item() == vectors["all_ignored"]["expected_total"] == 0
