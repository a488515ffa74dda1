"""Options that decide how deep a model's maps are: logits as large as the image, and a gradient everywhere.

The conformance kit tries every model with its defaults; here are some with backbones and strides that are not.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from segctl.conformance.batch_norm import BatchNormCalls
from segctl_models.deeplabv3 import deeplabv3
from segctl_models.enet import enet
from segctl_models.fcn import fcn
from segctl_models.fcn_vgg import fcn8s, fcn16s, fcn32s

CLASSES = 5
SIZES = [(64, 64), (33, 65), (48, 80), (47, 31)]
BUILDERS = {
    "enet": lambda: enet(CLASSES),
    "fcn": lambda: fcn(CLASSES, backbone="resnet18"),
    "fcn-stride-32": lambda: fcn(CLASSES, backbone="resnet18", output_stride=32, aux=False),
    "deeplabv3": lambda: deeplabv3(CLASSES),
    "deeplabv3-stride-16": lambda: deeplabv3(CLASSES, output_stride=16, multi_grid=True),
    "fcn32s": lambda: fcn32s(CLASSES),
    "fcn16s": lambda: fcn16s(CLASSES),
    "fcn8s": lambda: fcn8s(CLASSES, backbone="vgg16_bn"),
}


@pytest.fixture(scope="module", params=list(BUILDERS))
def model(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return BUILDERS[request.param]()


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_logits_have_the_size_of_the_image(model: nn.Module, size: tuple[int, int]) -> None:
    outputs = model.eval()(torch.randn(2, 3, *size))
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {"out": (2, CLASSES, *size)}


def test_every_parameter_learns_from_a_single_image(model: nn.Module) -> None:
    model.train().zero_grad(set_to_none=True)
    outputs = model(torch.randn(1, 3, 33, 65))
    assert {tuple(value.shape) for value in outputs.values()} == {(1, CLASSES, 33, 65)}
    assert ("aux" in outputs) == (getattr(model, "aux_classifier", None) is not None)
    sum(value.square().mean() for value in outputs.values()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    model.zero_grad(set_to_none=True)
    assert without == []


@torch.no_grad()
def test_bf16_autocast_and_channels_last_stay_close(model: nn.Module) -> None:
    model.eval()
    image = torch.randn(1, 3, 33, 65)
    expected = model(image)["out"]
    with torch.autocast("cpu", torch.bfloat16):
        actual = model(image.to(memory_format=torch.channels_last))["out"]
    assert actual.shape == expected.shape
    # bfloat16 has 8 significant bits; the errors of some tens of layers add up.
    assert (actual.float() - expected).norm() < 0.1 * expected.norm() + 1e-6


@torch.no_grad()
def test_all_normalisation_can_be_synchronised(model: nn.Module) -> None:
    layers = [m for m in model.modules() if not list(m.children())]
    other = [type(m).__name__ for m in layers if "Norm" in type(m).__name__ and type(m) is not nn.BatchNorm2d]
    assert other == []
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model)).train()
    with BatchNormCalls() as calls:
        converted(torch.randn(2, 3, 33, 65))
    assert (calls.synced, calls.plain) == (sum(isinstance(m, nn.BatchNorm2d) for m in layers), 0)


@pytest.mark.parametrize("name", ["enet", "fcn", "deeplabv3"])
@pytest.mark.slow
def test_the_forward_pass_is_one_graph(name: str) -> None:
    """Python that depended on the data would break the graph that torch.compile traces."""
    model: Any = BUILDERS[name]().train()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert compiled(torch.randn(1, 3, 33, 65))["out"].shape == (1, CLASSES, 33, 65)
