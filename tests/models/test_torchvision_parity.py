"""torchvision's own segmentation models are the measure: their state dicts fit, the logits are the same to the bit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import segmentation

from segctl_models.deeplabv3 import deeplabv3
from segctl_models.fcn import fcn
from segctl_models.lraspp import lraspp

WITH_AUXILIARY_HEAD: dict[str, Callable[..., nn.Module]] = {
    "fcn_resnet50": partial(fcn, backbone="resnet50"),
    "fcn_resnet101": partial(fcn, backbone="resnet101"),
    "deeplabv3_resnet50": partial(deeplabv3, backbone="resnet50"),
    "deeplabv3_resnet101": partial(deeplabv3, backbone="resnet101"),
    "deeplabv3_mobilenet_v3_large": partial(
        deeplabv3, backbone="mobilenet_v3_large", output_stride=16, rates=(12, 24, 36)
    ),
}
OURS = WITH_AUXILIARY_HEAD | {"lraspp_mobilenet_v3_large": lraspp}
# Models whose state dicts fit as well, and which are others all the same.
OTHERS: list[tuple[str, Callable[..., nn.Module]]] = [
    ("deeplabv3_resnet50", partial(deeplabv3, backbone="resnet50", rates=(20, 30, 40))),
    ("deeplabv3_resnet50", partial(deeplabv3, backbone="resnet50", rates=(12, 24, 37))),
    (
        "deeplabv3_mobilenet_v3_large",
        partial(deeplabv3, backbone="mobilenet_v3_large", output_stride=8, rates=(12, 24, 36)),
    ),
    ("lraspp_mobilenet_v3_large", partial(lraspp, output_stride=8)),
    ("lraspp_mobilenet_v3_large", partial(lraspp, output_stride=32)),
]
SLOW = {"fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101"}


def theirs(name: str, **options: bool) -> nn.Module:
    model: nn.Module = segmentation.__dict__[name](weights=None, weights_backbone=None, num_classes=7, **options)
    return model


@torch.no_grad()
def calibrated(name: str) -> nn.Module:
    """torchvision's model with the statistics of some images: with those it is made with, activations die out.

    Then its logits would be the biases of the last layer, whatever comes before.
    """
    torch.manual_seed(0)
    model = theirs(name, **({"aux_loss": True} if name in WITH_AUXILIARY_HEAD else {})).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean over all batches
    for _ in range(2):
        model(torch.randn(3, 3, 65, 97) + torch.randn(3, 3, 1, 1))
    return model.eval()


def pictures(name: str) -> list[Tensor]:
    """A wide one and a tall one, of odd sides.

    The long side is more than 36 times DeepLab's output stride: on a smaller map the outer taps of its pyramid see the
    padding only. The other is short for time's sake.
    """
    side = 89 if name.startswith("fcn") else 45 * (16 if "mobilenet" in name else 8) + 1
    return [torch.randn(1, 3, 57, side), torch.randn(1, 3, side, 57)]


def cases(names: list[str]) -> list[object]:
    return [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in names]


@pytest.mark.parametrize("name", cases(list(OURS)))
@torch.no_grad()
def test_the_logits_are_identical(name: str) -> None:
    reference, ours = calibrated(name), OURS[name](7)
    ours.load_state_dict(reference.state_dict(), strict=True)
    ours.eval()
    # Only the frame: the auxiliary head is computed, while dropout and statistics stay off.
    ours.training = name in WITH_AUXILIARY_HEAD
    for image in pictures(name):
        expected, given = reference(image), ours(image)
        assert given.keys() == expected.keys()
        for head, logits in expected.items():
            assert varies(logits), head
            assert torch.equal(given[head], logits), head


@pytest.mark.parametrize(
    ("name", "other"),
    [pytest.param(*each, marks=[pytest.mark.slow] if each[0] in SLOW else []) for each in OTHERS],
    ids=["rates 20, 30, 40", "rates 12, 24, 37", "stride 8", "lraspp, stride 8", "lraspp, stride 32"],
)
@torch.no_grad()
def test_another_model_with_the_same_state_dict_gives_other_logits(name: str, other: Callable[..., nn.Module]) -> None:
    """Else the test above would prove nothing of strides and dilations, which no weight tells."""
    reference, wrong = calibrated(name), other(7)
    wrong.load_state_dict(reference.state_dict(), strict=True)
    wrong.eval()
    for image in pictures(name):
        expected = reference(image)["out"]
        assert (wrong(image)["out"] - expected).abs().max() > 0.01 * expected.std(dim=(2, 3)).max()


def varies(logits: Tensor) -> bool:
    """Over the pixels of an image, by more than a hundredth of the largest logit."""
    return bool(logits.std(dim=(2, 3)).amax() > 0.01 * logits.abs().max())


@pytest.mark.parametrize("aux", [True, False])
@pytest.mark.parametrize("name", list(WITH_AUXILIARY_HEAD))
def test_the_state_dicts_have_the_same_names_and_shapes(name: str, aux: bool) -> None:
    with torch.device("meta"):
        reference, ours = theirs(name, aux_loss=aux), OURS[name](7, aux=aux)
    shapes = {key: value.shape for key, value in reference.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == shapes
