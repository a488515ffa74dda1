"""torchvision's own segmentation models are the measure: their state dicts fit, the logits are the same to the bit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models import segmentation

from segctl_models.deeplabv3 import deeplabv3
from segctl_models.fcn import fcn
from segctl_models.lraspp import lraspp

OURS: dict[str, Callable[..., nn.Module]] = {
    "fcn_resnet50": partial(fcn, backbone="resnet50"),
    "fcn_resnet101": partial(fcn, backbone="resnet101"),
    "deeplabv3_resnet50": partial(deeplabv3, backbone="resnet50"),
    "deeplabv3_resnet101": partial(deeplabv3, backbone="resnet101"),
    "deeplabv3_mobilenet_v3_large": partial(
        deeplabv3, backbone="mobilenet_v3_large", output_stride=16, rates=(12, 24, 36)
    ),
}
SLOW = {"fcn_resnet101", "deeplabv3_resnet101"}


def theirs(name: str, **options: bool) -> nn.Module:
    return segmentation.__dict__[name](weights=None, weights_backbone=None, num_classes=7, **options)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in OURS])
@torch.no_grad()
def test_the_logits_are_identical(name: str) -> None:
    torch.manual_seed(0)
    reference = theirs(name, aux_loss=True).eval()
    ours = OURS[name](7)
    ours.load_state_dict(reference.state_dict(), strict=True)
    ours.eval()
    image = torch.randn(2, 3, 57, 81)
    expected = reference(image)
    assert torch.equal(ours(image)["out"], expected["out"])
    ours.training = True  # only the frame: the auxiliary head is computed, while dropout and statistics stay off
    assert torch.equal(ours(image)["aux"], expected["aux"])


@pytest.mark.parametrize("aux", [True, False])
@pytest.mark.parametrize("name", list(OURS))
def test_the_state_dicts_have_the_same_names_and_shapes(name: str, aux: bool) -> None:
    with torch.device("meta"):
        reference, ours = theirs(name, aux_loss=aux), OURS[name](7, aux=aux)
    shapes = {key: value.shape for key, value in reference.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == shapes


@torch.no_grad()
def test_lraspp_s_logits_are_identical() -> None:
    torch.manual_seed(0)
    reference, ours = theirs("lraspp_mobilenet_v3_large").eval(), lraspp(7).eval()
    ours.load_state_dict(reference.state_dict(), strict=True)
    image = torch.randn(2, 3, 57, 81)
    assert torch.equal(ours(image)["out"], reference(image)["out"])
