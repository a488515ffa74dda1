"""What holds for every loss, with options other than the defaults, which `segctl plugins check` tries.

Class weights, other ignored values, all ignored, absent classes, autocast: the checks are those of the contract.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segctl.conformance import check_loss
from segctl.errors import ConfigError, PluginError
from segctl.plugin import loss_outputs
from segctl_losses.boundary import Boundary
from segctl_losses.cross_entropy import CrossEntropy
from segctl_losses.dice import Dice
from segctl_losses.encnet import EncNet
from segctl_losses.focal import Focal
from segctl_losses.icnet import ICNet
from segctl_losses.lovasz import Lovasz
from segctl_losses.ohem import OHEM
from segctl_losses.tversky import Tversky

Factory = Callable[..., nn.Module]

LOSSES: list[Factory] = [CrossEntropy, OHEM, EncNet, ICNet, Focal, Dice, Tversky, Lovasz, Boundary]
VARIANTS = [
    *(pytest.param(loss, {"class_weights": [3.0, 1.0, 0.5, 2.0, 0.1]}, id=loss.__name__) for loss in LOSSES),
    *(pytest.param(loss, {"class_weights": "median_frequency"}, id=f"{loss.__name__}-counted") for loss in LOSSES),
    pytest.param(OHEM, {"threshold": None, "min_kept": 100}, id="OHEM-highest"),
    pytest.param(OHEM, {"threshold": 0.9, "min_kept": 1}, id="OHEM-threshold"),
    pytest.param(Focal, {"activation": "sigmoid", "alpha": 0.25, "gamma": 0.5}, id="Focal-sigmoid"),
    pytest.param(Focal, {"gamma": 0.5}, id="Focal-steep"),
    pytest.param(Dice, {"average": "all", "smooth": 1.0}, id="Dice-all"),
    pytest.param(Lovasz, {"per_image": True}, id="Lovasz-per-image"),
    pytest.param(Boundary, {"boundary": 7, "tolerance": 3}, id="Boundary-wide"),
]


@pytest.mark.parametrize(("factory", "options"), VARIANTS)
def test_the_contract_holds_with_other_options_too(factory: Factory, options: dict[str, Any]) -> None:
    checks = check_loss(factory, options=options)

    assert [(check.name, check.detail) for check in checks if not check.passed] == []


def sample(factory: Factory, count: int = 5, size: tuple[int, int] = (17, 23)) -> tuple[Any, Tensor]:
    """Outputs as the loss's own model gives them, and a target."""
    torch.manual_seed(0)
    logits = torch.randn(2, count, *size)
    target = torch.randint(count, (2, *size))
    target[:, :3] = 255
    outputs = loss_outputs(factory) or (lambda logits: {"out": logits, "aux": logits[..., ::2, ::2]})
    return outputs(logits), target


@pytest.mark.slow
@pytest.mark.parametrize("factory", LOSSES)
def test_compiles_into_one_graph(factory: Factory) -> None:
    """Which also shows that nothing waits for the device, and that there is no loop whose length the data decide."""
    torch.compiler.reset()  # the losses share a forward, and torch compiles none anew too often
    outputs, target = sample(factory)
    loss = factory(5, class_weights=[3.0, 1.0, 0.5, 2.0, 0.1])

    compiled = torch.compile(loss, fullgraph=True, backend="eager")

    torch.testing.assert_close(compiled(outputs, target), loss(outputs, target))


@pytest.mark.parametrize("factory", LOSSES)
def test_float64_stays_float64(factory: Factory) -> None:
    outputs, target = sample(factory)
    loss = factory(5, class_weights=[3.0, 1.0, 0.5, 2.0, 0.1])

    exact = loss({name: value.double() for name, value in outputs.items()}, target)

    assert {term.dtype for term in exact.values()} == {torch.float64}
    torch.testing.assert_close(exact, {name: term.double() for name, term in loss(outputs, target).items()})


@pytest.mark.parametrize("factory", [loss for loss in LOSSES if loss not in (EncNet, ICNet)])
def test_auxiliary_maps_are_judged_alike_and_weighted(factory: Factory) -> None:
    torch.manual_seed(0)
    main, first, second = torch.randn(3, 2, 5, 9, 12)
    target = torch.randint(5, (2, 9, 12))
    loss = factory(5, aux_weight=0.3)

    terms = loss({"out": main, "aux": first, "deep": second, "features": torch.zeros(2, 64, 3, 4)}, target)

    alone = [factory(5)(each, target)["out"] for each in (main, first, second)]
    torch.testing.assert_close(terms, {"out": alone[0], "aux": 0.3 * alone[1], "deep": 0.3 * alone[2]})


@pytest.mark.parametrize("factory", [loss for loss in LOSSES if loss is not ICNet])
def test_equal_class_weights_change_nothing(factory: Factory) -> None:
    outputs, target = sample(factory)

    torch.testing.assert_close(factory(5, class_weights=[7.0] * 5)(outputs, target), factory(5)(outputs, target))


@pytest.mark.parametrize("factory", [Dice, Tversky, Lovasz, Boundary, CrossEntropy, Focal])
def test_a_class_without_weight_leaves_the_others_alone(factory: Factory) -> None:
    """With weights of 0 and 1 a loss of two classes lies between those of each class alone."""
    outputs, target = sample(factory)
    logits = outputs["out"]
    only = [factory(5, class_weights=[float(index == chosen) for index in range(5)]) for chosen in range(5)]
    both = factory(5, class_weights=[1.0, 0.0, 0.0, 0.0, 1.0])(logits, target)["out"]

    first, last = (only[index](logits, target)["out"] for index in (0, 4))

    assert min(first, last) <= both <= max(first, last)
    assert first != last


@pytest.mark.parametrize("factory", LOSSES)
def test_class_weights_are_computed_from_the_training_masks(factory: Factory) -> None:
    outputs, target = sample(factory)

    counted = factory(5, 255, lambda: [40, 30, 20, 9, 1], class_weights="inverse_frequency")
    given = factory(5, class_weights=[1 / (5 * share) for share in (0.4, 0.3, 0.2, 0.09, 0.01)])

    torch.testing.assert_close(counted(outputs, target), given(outputs, target))
    assert not counted.state_dict(), "a checkpoint does not hold them"


@pytest.mark.parametrize(
    ("factory", "options", "message"),
    [
        (OHEM, {"threshold": 0.0}, r"loss\.threshold: 0 is not"),
        (OHEM, {"threshold": 1.5}, r"loss\.threshold: 1.5 is not"),
        (OHEM, {"min_kept": 0}, r"loss\.min_kept: 0 is not"),
        (EncNet, {"se_weight": -0.2}, r"loss\.se_weight: -0.2 is not"),
        (ICNet, {"sub8_weight": float("nan")}, r"loss\.sub8_weight: nan is not"),
        (Focal, {"gamma": -1.0}, r"loss\.gamma: -1 is not"),
        (Focal, {"alpha": 0.25}, r"loss\.alpha: .* only the sigmoid does"),
        (Focal, {"alpha": 1.25, "activation": "sigmoid"}, r"loss\.alpha: 1.25 is not"),
        (Dice, {"smooth": -1.0}, r"loss\.smooth: -1 is not"),
        (Tversky, {"alpha": 0.0, "beta": 0.0}, "both 0, so nothing would be learnt"),
        (Tversky, {"beta": float("inf")}, r"loss\.beta: inf is not"),
        (Boundary, {"boundary": 4}, r"loss\.boundary: 4 is not an odd"),
        (Boundary, {"tolerance": 1}, r"loss\.tolerance: 1 is not an odd"),
        *((loss, {"aux_weight": -0.4}, "aux_weight: -0.4 is not") for loss in LOSSES if loss is not ICNet),
        *((loss, {"class_weights": [1.0]}, "1 weights are given, but the data set has 5") for loss in LOSSES),
    ],
)
def test_refuses_options_out_of_range(factory: Factory, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        factory(5, **options)


@pytest.mark.parametrize(
    ("factory", "outputs", "message"),
    [
        (EncNet, {"out": torch.zeros(1, 5, 4, 4)}, "needs a model's 'se', .* returned out"),
        (EncNet, torch.zeros(1, 5, 4, 4), "needs a model's 'se', .* returned logits alone"),
        (EncNet, {"out": torch.zeros(1, 5, 4, 4), "se": torch.zeros(1, 4)}, r"\(1, 4\); .* must be \(1, 5\)"),
        (ICNet, {"out": torch.zeros(1, 5, 4, 4)}, "sub4, sub8 and sub16, .* no sub4"),
        (ICNet, torch.zeros(1, 5, 4, 4), "no sub4"),
    ],
)
def test_a_loss_says_what_the_model_does_not_return(factory: Factory, outputs: Any, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        factory(5)(outputs, torch.zeros(1, 4, 4, dtype=torch.int64))


@pytest.mark.parametrize("factory", [Dice, Tversky, Lovasz, Boundary, partial(Focal, activation="sigmoid")])
def test_150_classes(factory: Factory) -> None:
    logits = torch.randn(1, 150, 16, 16, requires_grad=True)

    loss = factory(150)(logits, torch.randint(150, (1, 16, 16)))["out"]
    loss.backward()

    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
