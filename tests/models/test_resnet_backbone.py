"""Output stride, dilation, multi-grid, and pooled features of a single image."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models

from segctl_models.backbones.resnet import ResNet
from segctl_models.deeplabv3 import deeplabv3
from segctl_models.layers.aspp import ASPP
from segctl_models.layers.pooling import ImagePooling


def dilations(stage: nn.Module) -> list[int]:
    return [m.dilation[0] for m in stage.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize(("stride", "sizes"), [(32, [16, 8, 4, 2]), (16, [16, 8, 4, 4]), (8, [16, 8, 8, 8])])
def test_output_stride_sets_the_size_of_the_features(name: str, stride: int, sizes: list[int]) -> None:
    backbone = ResNet(name, output_stride=stride)
    with torch.no_grad():
        features = backbone(torch.randn(1, 3, 64, 64))
    assert [tuple(f.shape) for f in features] == [
        (1, width, size, size) for width, size in zip(backbone.channels, sizes, strict=True)
    ]


def test_the_first_dilated_block_is_contracted() -> None:
    backbone = ResNet("resnet50", output_stride=8)
    assert dilations(backbone.layer3) == [1, 2, 2, 2, 2, 2]
    assert dilations(backbone.layer4) == [2, 4, 4]


@pytest.mark.parametrize(("stride", "rates"), [(16, [2, 4, 8]), (8, [4, 8, 16])])
def test_multi_grid_multiplies_the_dilation(stride: int, rates: list[int]) -> None:
    """DeepLabv3, section 3.1: "when output_stride = 16 and Multi Grid = (1, 2, 4), the rates are 2 · (1, 2, 4)"."""
    with torch.device("meta"):
        model = deeplabv3(21, output_stride=stride, multi_grid=True)
    assert dilations(model.backbone.layer4) == rates


@pytest.mark.parametrize(("stride", "rates"), [(16, [6, 12, 18]), (8, [12, 24, 36])])
def test_the_pyramid_s_rates_follow_the_output_stride(stride: int, rates: list[int]) -> None:
    with torch.device("meta"):
        model = deeplabv3(21, output_stride=stride)
    assert dilations(next(m for m in model.modules() if isinstance(m, ASPP))) == rates


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_parameters_are_torchvision_s_without_the_classifier(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = ResNet(name, output_stride=8), models.get_model(name)
    expected = {k: v.shape for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    assert {k: v.shape for k, v in ours.state_dict().items()} == expected


def test_a_single_image_is_normalised_by_the_running_statistics() -> None:
    pooling = ImagePooling(2, 1).train()
    _, projection, norm, _ = pooling
    with torch.no_grad():
        projection.weight.copy_(torch.tensor([1.0, 1.0]).view(1, 2, 1, 1))
        norm.running_mean.fill_(3.0)
        norm.running_var.fill_(4.0 - norm.eps)
        norm.weight.fill_(10.0)
        norm.bias.fill_(1.0)
    image = torch.tensor([[[[2.0, 4.0]], [[1.0, 3.0]]]])  # means 3 and 2, projected to 5
    assert torch.allclose(pooling(image), torch.full((1, 1, 1, 2), 10 * (5 - 3) / 2 + 1.0))
    assert norm.running_mean.item() == 3.0
    assert norm.num_batches_tracked.item() == 0


def test_a_batch_is_normalised_by_its_own_statistics() -> None:
    pooling = ImagePooling(2, 3).train()
    reference = nn.Sequential(*pooling)
    batch = torch.randn(4, 2, 5, 6)
    assert torch.allclose(pooling(batch), reference(batch).expand(-1, -1, 5, 6), atol=1e-6)
    assert pooling[2].num_batches_tracked.item() == 2
