"""The kit on models: it passes what is right, and finds each fault by the check that is named for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import toy_models as toys
import toy_outputs as outputs
import toy_training as training

from segctl.conformance import assert_model, check_model

# Fault, the one check that must fail, and what its detail must say.
FAULTS: list[tuple[Callable[..., Any], str, str]] = [
    (toys.swallows_options, "signature", "**options"),
    (toys.takes_options_by_position, "signature", "width"),
    (toys.undocumented_option, "documented options", "width has no line"),
    (toys.untyped_option, "documented options", "width has no type"),
    (toys.undocumented, "documented options", "no docstring"),
    (toys.cannot_be_built, "builds", "RuntimeError: no such layer"),
    (toys.not_a_module, "builds", "returned function"),
    (outputs.too_small_logits, "logits", "(2, 19, 32, 32) instead of (2, 19, 64, 64)"),
    (outputs.unnamed_logits, "logits", "returned logits, but no 'out'"),
    (outputs.a_tuple, "logits", "returned tuple"),
    (outputs.class_map, "logits", "torch.int64"),
    (outputs.nan_logits, "logits", "155648 of 155648 logits of 64x64 images are not finite in training"),
    (outputs.ignores_images_in_evaluation, "sees its images", "two different images give the same logits"),
    (outputs.writes_to_its_input, "input unchanged", "in place"),
    (outputs.always_drops_out, "repeatable", "dropout that is always on"),
    (outputs.remembers_forward_passes, "repeatable", "by up to"),
    (outputs.only_even_sizes, "any size", "65x97 images give logits of shape (2, 19, 66, 98)"),
    (outputs.only_square_images, "any size", "65x97 images in evaluation"),
    (outputs.nan_logits_at_odd_widths, "any size", "logits of 65x97 images are not finite in evaluation"),
    (outputs.needs_33_pixels, "any size", "32x32 images in evaluation"),
    (outputs.ignores_odd_images, "any size", "65x97 images in evaluation all give the same logits"),
    (outputs.compares_images_in_evaluation, "single image", "other logits than in a batch of two: by up to"),
    (outputs.compares_images, "single image", "77824 of 77824 logits of 64x64 images are not finite in training"),
    (outputs.batch_norm_on_one_pixel, "single image", "a batch of one in training"),
    (outputs.squeezes_the_batch, "single image", "(19, 64, 64) instead of (1, 19, 64, 64)"),
    (toys.made_for_cityscapes, "class counts", "(2, 19, 64, 64) instead of (2, 2, 64, 64)"),
    (outputs.divides_by_further_classes, "class counts", "are not finite with 2 classes"),
    (outputs.ignores_images_with_many_classes, "class counts", "with 150 classes, two different images"),
    (toys.misnamed_backbone, "declared traits", "'backbone.'"),
    (toys.unknown_loss, "finite loss", "no_such_loss"),
    (training.unused_parameter, "gradients", "2 of 7 parameters get no gradient: fc.weight and fc.bias"),
    (training.detached_stem, "gradients", "stem.weight"),
    (training.infinite_gradient, "gradients", "not finite for shift"),
    (
        training.unheard_layer,
        "gradients",
        "zero in every element: unheard.weight and unheard.bias",
    ),
    (training.gate_that_stays_closed, "gradients", "zero in every element: attend.weight and attend.bias"),
    (training.two_zeros_in_a_row, "gradients", "zero in every element: gate and attend.weight"),
    (training.divides_by_what_bf16_rounds_away, "bf16 autocast", "logits of 64x64 images are not finite in eval"),
    (training.infinite_gradient_in_bf16, "bf16 autocast", "the gradient is not finite for"),
    (training.ignores_images_in_bf16, "bf16 autocast", "in evaluation, two different images give the same logits"),
    (training.learns_nothing_of_images_in_bf16, "bf16 autocast", "in training, no gradient reaches the image"),
    (training.only_float32, "bf16 autocast", "same scalar type"),
    (training.holds_layers_in_a_list, "state dict", "other logits"),
    (training.saves_a_number, "state dict", "_extra_state"),
    (training.counts_on_contiguous_memory, "channels last", "view"),
    (training.misreads_channels_last, "channels last", "differ from those of contiguous images"),
    (training.ignores_images_in_channels_last, "channels last", "differ from those of contiguous images: by up to"),
    (training.learns_nothing_of_channels_last, "channels last", "in training, no gradient reaches the image"),
    (training.counts_on_contiguous_gradients, "channels last", "RuntimeError: view size"),
    (training.hides_from_the_compiler, "torch.compile", "not one graph"),
    (training.hides_its_training, "torch.compile", "not one graph"),
    (training.ignores_images_when_compiled, "torch.compile", "other logits than the model: by up to"),
    (training.ignores_images_when_exported, "torch.export", "other logits for a 96x80 one: by up to"),
    (training.made_for_one_width, "torch.export", "specialized it to be a constant (97)"),
    (training.normalises_twice_held, "sync batch norm", "1 of 1"),
    (training.normalises_by_hand, "sync batch norm", "1 of 1"),
    (training.normalises_and_more, "sync batch norm", "changes the logits in training"),
]


GOOD = [
    toys.good,
    toys.good_with_auxiliary_head,
    toys.good_at_a_64th_of_the_size,
    toys.good_but_deep,
    toys.good_behind_closed_gates,
    toys.good_with_a_shift_that_cancels,
    toys.good_with_a_classifier_of_zeros,
]


@pytest.mark.parametrize("factory", GOOD)
def test_a_good_model_passes_every_check(factory: Callable[..., Any]) -> None:
    checks = check_model(factory)

    assert all(check.passed for check in checks), [check for check in checks if not check.passed]
    assert len({check.name for check in checks}) == len(checks)


@pytest.mark.parametrize(("factory", "name", "detail"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS])
def test_a_fault_is_found_by_its_check_alone(factory: Callable[..., Any], name: str, detail: str) -> None:
    failed = {check.name: check.detail for check in check_model(factory) if check.failed}

    assert list(failed) == [name], failed
    assert detail in failed[name]


def test_what_learns_late_or_cancels_out_has_no_gradient_at_first() -> None:
    """Else the two good models would pass for nothing."""
    idle = {}
    for factory in (toys.good_behind_closed_gates, toys.good_with_a_shift_that_cancels):
        torch.manual_seed(0)
        model = factory(19).train()
        model(torch.randn(2, 3, 64, 64)).logsumexp(1).mean().backward()
        idle[factory] = [name for name, p in model.named_parameters() if not p.grad.any()]

    assert idle[toys.good_behind_closed_gates] == ["inner", "attend.weight", "attend.bias"]
    assert idle[toys.good_with_a_shift_that_cancels] == ["shift"]


def test_what_is_deep_or_starts_at_zero_says_the_same_of_all_images_at_first() -> None:
    """Else these two good models, and the faults of deep ones, would be no harder to find than others."""
    for factory, most in ((toys.good_but_deep, 1e-3), (toys.good_with_a_classifier_of_zeros, 0.0)):
        torch.manual_seed(0)
        with torch.no_grad():
            first, second = factory(19).eval()(torch.randn(2, 3, 64, 64))
        assert (first - second).abs().max() <= most


def test_the_model_is_left_as_it_was_when_gates_are_opened() -> None:
    model = toys.good_behind_closed_gates(19)
    before = {name: value.clone() for name, value in model.state_dict().items() if "norm" not in name}

    gradients = next(check for check in check_model(lambda num_classes: model) if check.name == "gradients")

    assert gradients.passed
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize("factory", [toys.knows_its_classes, toys.needs_an_option])
def test_a_factory_that_cannot_be_called_fails_by_its_signature_too(factory: Callable[..., Any]) -> None:
    failed = [check.name for check in check_model(factory) if check.failed]

    assert failed == ["signature", "builds"]


def test_every_check_has_a_fault_that_it_finds() -> None:
    """A check that cannot fail would be a defect of the kit."""
    names = {check.name for check in check_model(toys.good)}

    assert names == {name for _, name, _ in FAULTS}


def test_what_builds_on_a_failed_check_is_skipped_and_says_so() -> None:
    checks = {check.name: check for check in check_model(outputs.a_tuple)}

    assert checks["state dict"].skipped
    assert not checks["state dict"].passed
    assert checks["state dict"].detail == "not tried, because 'logits' failed"


def test_options_reach_the_model() -> None:
    parameters = {
        width: next(
            check.detail for check in check_model(toys.good, options={"width": width}) if check.name == "builds"
        )
        for width in (4, 16)
    }

    # 27 w for the stem, 2 w for the norm, 19 w + 19 for the head.
    assert parameters == {4: "211 parameters", 16: "787 parameters"}


def test_random_state_and_the_gradient_mode_are_left_as_they_were() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()

    check_model(toys.good)

    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.is_grad_enabled()


def test_the_assertion_lists_what_failed_and_why() -> None:
    assert_model(toys.good, options={"width": 4})
    with pytest.raises(AssertionError) as failure:
        assert_model(training.unused_parameter)

    lines = str(failure.value).splitlines()
    assert lines[0] == "the model unused_parameter fails 1 of 19 conformance checks:"
    assert lines[1].startswith("  failed   gradients: 2 of 7 parameters get no gradient: fc.weight and fc.bias")
    assert "state dict" in lines[-1]


def test_an_exception_is_told_with_the_place_in_the_plugin() -> None:
    (failed,) = [check for check in check_model(toys.cannot_be_built) if check.failed]

    assert failed.detail.startswith("RuntimeError: no such layer (")
    assert f"{toys.__file__}:" in failed.detail
