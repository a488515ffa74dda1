"""The kit on losses: it passes what is right, and finds each fault by the check that is named for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import toy_losses as toys

from segctl.conformance import assert_loss, check_loss

# Fault, the one check that must fail, and what its detail must say.
FAULTS: list[tuple[Callable[..., Any], str, str]] = [
    (toys.SwallowsOptions, "signature", "**options"),
    (toys.NeedsAnOption, "signature", "smooth"),
    (toys.UndocumentedOption, "documented options", "smooth has no line"),
    (toys.cannot_be_called, "builds", "returned float, which cannot be called"),
    (toys.OneValuePerPixel, "scalar terms", "the loss is a tensor of shape (2, 33, 50)"),
    (toys.OutOfTheGraph, "scalar terms", "the loss is a float"),
    (toys.LogOfSoftmax, "scalar terms", "the loss of random logits is inf"),
    (toys.Detached, "gradient", "no gradient"),
    (toys.SteepAuxiliary, "gradient", "on a dict, the gradient of aux is not finite"),
    (toys.Reversed, "direction", "the loss is to be minimised"),
    (toys.NanWithoutLabels, "all ignored", "costs nan instead of 0"),
    (toys.ConstantWithoutLabels, "all ignored", "none at all"),
    (toys.NanForAbsentClasses, "absent classes", "only class 0"),
    (toys.CountsIgnoredPixels, "ignored pixels", "change the loss from"),
    (toys.HardWired255, "ignored pixels", "with ignore_index -1"),
    (toys.ClassesBelowTheIgnored, "ignored pixels", "with ignore_index 5"),
    (toys.NeedsTwoImages, "single image", "of one image is nan"),
    (toys.ScalesInPlace, "inputs unchanged", "modifies its outputs in place"),
    (toys.ScalesAuxiliaryInPlace, "inputs unchanged", "modifies its outputs in place: aux"),
    (toys.RelabelsInPlace, "inputs unchanged", "modifies its target in place"),
    (toys.PopsOutputs, "inputs unchanged", "from out and aux to out"),
    (toys.RunningMean, "repeatable", "the same inputs give"),
    (toys.InHalfPrecision, "autocast", "call .float() on the logits first"),
    (toys.ReturnsHalfPrecision, "autocast", "torch.bfloat16"),
]


@pytest.mark.parametrize("factory", [toys.Good, toys.good_function, toys.half_cross_entropy])
def test_a_good_loss_passes_every_check(factory: Callable[..., Any]) -> None:
    checks = check_loss(factory)

    assert all(check.passed for check in checks), [check for check in checks if not check.passed]
    assert len({check.name for check in checks}) == len(checks)


@pytest.mark.parametrize(("factory", "name", "detail"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS])
def test_a_fault_is_found_by_its_check_alone(factory: Callable[..., Any], name: str, detail: str) -> None:
    failed = {check.name: check.detail for check in check_loss(factory) if check.failed}

    assert list(failed) == [name], failed
    assert detail in failed[name]


def test_every_check_has_a_fault_that_it_finds() -> None:
    names = {check.name for check in check_loss(toys.Good)}

    assert names == {name for _, name, _ in FAULTS}


def test_a_loss_that_needs_more_outputs_is_given_them() -> None:
    assert [check.name for check in check_loss(toys.NeedsSceneLogits) if check.failed] == ["scalar terms"]

    assert_loss(toys.NeedsSceneLogits, outputs=lambda logits: {"out": logits, "se": logits.mean((2, 3))})
    assert_loss(toys.SaysWhatItNeeds)


def test_options_reach_the_loss() -> None:
    doubled, plain = (
        next(check.detail for check in check_loss(toys.Good, options=options) if check.name == "scalar terms")
        for options in ({"factor": 2.0}, {})
    )

    assert float(doubled.rsplit(" ", 1)[1]) == pytest.approx(2 * float(plain.rsplit(" ", 1)[1]), abs=0.002)


def test_the_assertion_lists_what_failed_and_why() -> None:
    with pytest.raises(
        AssertionError, match="the loss NanWithoutLabels fails 1 of 13 conformance checks:\n  failed   all"
    ):
        assert_loss(toys.NanWithoutLabels)
