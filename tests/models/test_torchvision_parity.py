"""torchvision's own segmentation models are the measure: their state dicts fit, the logits are the same to the bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.models import segmentation

from segctl_models.deeplabv3 import deeplabv3
from segctl_models.fcn import fcn

FACTORIES = {"fcn": fcn, "deeplabv3": deeplabv3}


def theirs(name: str, aux: bool = True) -> torch.nn.Module:
    return segmentation.__dict__[name](weights=None, weights_backbone=None, num_classes=7, aux_loss=aux)


@pytest.mark.parametrize("name", ["fcn", "deeplabv3"])
def test_the_logits_are_identical(name: str) -> None:
    torch.manual_seed(0)
    reference = theirs(f"{name}_resnet50").eval()
    ours = FACTORIES[name](7, backbone="resnet50")
    ours.load_state_dict(reference.state_dict(), strict=True)
    ours.eval()
    image = torch.randn(2, 3, 57, 81)
    with torch.no_grad():
        expected = reference(image)
        assert torch.equal(ours(image)["out"], expected["out"])
        ours.training = True  # only the frame: the auxiliary head is computed, while dropout and statistics stay off
        assert torch.equal(ours(image)["aux"], expected["aux"])


@pytest.mark.parametrize("aux", [True, False])
@pytest.mark.parametrize("name", ["fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101"])
def test_the_state_dicts_have_the_same_names_and_shapes(name: str, aux: bool) -> None:
    head, backbone = name.split("_")
    factory: Any = FACTORIES[head]
    with torch.device("meta"):
        reference, ours = theirs(name, aux), factory(7, backbone=backbone, aux=aux)
    shapes = {key: value.shape for key, value in reference.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == shapes
