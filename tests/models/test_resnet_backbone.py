"""Output stride, dilation, multi-grid, stems, and pooled features of a single image."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from meta_models import count, on_meta
from torch import nn
from torchvision import models

from segctl.errors import ConfigError
from segctl_models.backbones.resnet import ResNet, ResNetName, Stem
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
    model = on_meta(deeplabv3, 21, output_stride=stride, multi_grid=True)
    assert dilations(model.backbone.layer4) == rates


@pytest.mark.parametrize("backbone", ["resnet34", "wide_resnet50_2", "xception65"])
def test_deeplabv3_has_a_multi_grid_on_the_backbones_that_its_help_names(backbone: str) -> None:
    assert on_meta(deeplabv3, 21, backbone=backbone, multi_grid=True)


@pytest.mark.parametrize("backbone", ["resnet18", "densenet121", "mobilenet_v2"])
def test_deeplabv3_has_none_on_others(backbone: str) -> None:
    with pytest.raises(ConfigError, match=rf"{backbone} .*multi.grid"):
        on_meta(deeplabv3, 21, backbone=backbone, multi_grid=True)


@pytest.mark.parametrize(("stride", "rates"), [(16, [6, 12, 18]), (8, [12, 24, 36])])
def test_the_pyramid_s_rates_follow_the_output_stride(stride: int, rates: list[int]) -> None:
    model = on_meta(deeplabv3, 21, output_stride=stride)
    assert dilations(next(m for m in model.modules() if isinstance(m, ASPP))) == rates


SLOW = ("resnet152", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet101_2")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in get_args(ResNetName)]
)
def test_parameters_are_torchvision_s_without_the_classifier(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = ResNet(name, output_stride=8), models.get_model(name)
    expected = {k: v.shape for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    assert {k: v.shape for k, v in ours.state_dict().items()} == expected


def test_without_contraction_all_blocks_of_a_stage_are_dilated_alike() -> None:
    """As in semseg, the authors' release of PSPNet."""
    backbone = on_meta(ResNet, "resnet50", output_stride=8, contracted=False)
    assert dilations(backbone.layer3) == [2] * 6
    assert dilations(backbone.layer4) == [4] * 3


@pytest.mark.parametrize(("stem", "widths", "more"), [("v1c", (32, 32, 64), 19_232), ("v1s", (64, 64, 128), 123_776)])
def test_a_deep_stem_has_three_convolutions(stem: Stem, widths: tuple[int, int, int], more: int) -> None:
    """Parameters beside the 7x7 stem's 9,536: three convolutions with normalisation; with v1s a wider first block."""
    with torch.device("meta"):
        plain, deep = ResNet("resnet50"), ResNet("resnet50", stem=stem)
    convs = [m for m in deep.conv1 if isinstance(m, nn.Conv2d)]
    assert [(m.out_channels, m.kernel_size[0], m.stride[0]) for m in convs] == [
        (width, 3, stride) for width, stride in zip(widths, (2, 1, 1), strict=True)
    ]
    assert count(deep) - count(plain) == more
    assert deep.imagenet is None


NAMES_OF_STEMS = {
    "PyTorch-Encoding": ["conv1.0", "conv1.1", "conv1.3", "conv1.4", "conv1.6", "bn1"],
    "mmsegmentation": ["stem.0", "stem.1", "stem.3", "stem.4", "stem.6", "stem.7"],
    "semseg": ["conv1", "bn1", "conv2", "bn2", "conv3", "bn3"],
}


@pytest.mark.parametrize("release", list(NAMES_OF_STEMS))
def test_files_with_a_deep_stem_fit_under_each_release_s_names(release: str) -> None:
    torch.manual_seed(0)
    backbone = ResNet("resnet18", stem="v1s").eval()
    names = dict(zip(NAMES_OF_STEMS["PyTorch-Encoding"], NAMES_OF_STEMS[release], strict=True))
    state = {}
    for key, value in backbone.state_dict().items():
        layer, entry = key.rsplit(".", 1)
        state[f"{names.get(layer, layer)}.{entry}"] = value
    state["fc.weight"] = torch.zeros(1000, 512)
    translated = backbone.from_imagenet(state)
    own = backbone.state_dict()
    assert translated.keys() == own.keys()
    assert all(translated[key].data_ptr() == value.data_ptr() for key, value in own.items())  # the very same tensor


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
