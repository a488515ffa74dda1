"""Backbones against torchvision's classifiers: the same names, the same features, and dilation where it belongs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from meta_models import on_meta
from torch import Tensor, nn
from torchvision.models import get_model

from segctl.errors import ConfigError, WeightsError
from segctl_models import backbones
from segctl_models.deeplabv3 import deeplabv3
from segctl_models.fcn import fcn
from segctl_models.lraspp import lraspp
from segctl_models.unet import unet
from segctl_models.upernet import upernet

SIZE = (65, 97)  # odd after each halving that rounds up
EVEN = (64, 96)  # torchvision's DenseNets, ConvNeXts and Swins lose rows and columns at sizes that 32 does not divide
# torchvision's modules whose outputs are the feature maps. What torchvision does not normalise, `expected` does.
MODULES = {
    "resnet18": ["relu", "layer1", "layer2", "layer3", "layer4"],
    "resnext50_32x4d": ["relu", "layer1", "layer2", "layer3", "layer4"],
    "densenet121": [
        "features.relu0",
        *(f"features.transition{stage}.relu" for stage in (1, 2, 3)),
        "features.norm5",  # the activation behind it works in place
    ],
    "mobilenet_v2": [f"features.{index}" for index in (1, 3, 6, 13, 17)],
    "mobilenet_v3_large": [f"features.{index}" for index in (1, 3, 6, 12, 16)],
    "mobilenet_v3_small": [f"features.{index}" for index in (0, 1, 3, 8, 12)],
    "efficientnet_b0": [f"features.{index}" for index in (1, 2, 3, 5, 7)],
    "efficientnet_v2_s": [f"features.{index}" for index in (1, 2, 3, 5, 6)],
    "convnext_tiny": [f"features.{index}" for index in (1, 3, 5, 7)],
    "swin_t": [*(f"features.{index}" for index in (1, 3, 5)), "permute"],
    "swin_v2_t": [*(f"features.{index}" for index in (1, 3, 5)), "permute"],
}
SLOW = {"resnext50_32x4d", "efficientnet_v2_s", "convnext_tiny", "swin_v2_t"}
TORCHVISION_HAS = [
    name
    for name in get_args(backbones.PyramidName)
    if not name.startswith(("resnet", "resnext", "wide_resnet", "vgg", "xception", "hrnet"))
]


def features_of(classifier: nn.Module, modules: list[str], image: Tensor) -> list[Tensor]:
    """What these modules of `classifier` give when they are first called."""
    found: dict[str, Tensor] = {}
    for name in modules:
        module = classifier.get_submodule(name)
        module.register_forward_hook(lambda _m, _i, output, name=name: found.setdefault(name, output))
    classifier(image)
    return [found[name] for name in modules]


def expected_features(name: str, classifier: nn.Module, image: Tensor) -> list[Tensor]:
    maps = features_of(classifier, MODULES[name], image)
    if name.startswith("swin"):
        return [F.layer_norm(x, x.shape[3:], eps=1e-5).movedim(3, 1) for x in maps[:3]] + maps[3:]
    if name.startswith("convnext"):
        norm = classifier.classifier[0]
        weights = [(None, None)] * 3 + [(norm.weight, norm.bias)]
        return [
            F.layer_norm(x.movedim(1, 3), x.shape[1:2], *weight, eps=1e-6).movedim(3, 1)
            for x, weight in zip(maps, weights, strict=True)
        ]
    return maps


def with_statistics(classifier: nn.Module) -> nn.Module:
    """Weights and running statistics of which none are alike, so that exchanged ones are noticed."""
    generator = torch.Generator().manual_seed(2)
    for key, value in classifier.state_dict().items():
        if value.is_floating_point() and value.ndim == 1:
            value.copy_(0.5 + torch.rand(value.shape, generator=generator) * (1 if "weight" in key else 0.5))
    return classifier.eval()


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in MODULES])
def test_the_features_are_torchvision_s(name: str) -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 3, *(EVEN if name.startswith(("densenet", "convnext", "swin")) else SIZE))
    classifier = with_statistics(get_model(name))
    backbone = backbones.create(name, stride2=True).eval()
    backbone.load_state_dict(backbone.from_imagenet(classifier.state_dict()), strict=True)
    with torch.no_grad():
        expected = expected_features(name, classifier, image)
        actual = backbone(image)
    assert [tuple(x.shape) for x in actual] == [tuple(x.shape) for x in expected]
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in MODULES])
def test_odd_sizes_are_rounded_up_and_the_deepest_map_uses_every_parameter(name: str) -> None:
    with torch.device("meta"):  # shapes and gradients without numbers
        backbone = backbones.create(name, stride2=True)
        features = backbone(torch.zeros(1, 3, *SIZE))
        features[-1].sum().backward()
    assert backbone.strides[-4:] == (4, 8, 16, 32)
    assert [tuple(x.shape) for x in features] == [
        (1, width, math.ceil(SIZE[0] / stride), math.ceil(SIZE[1] / stride))
        for width, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]
    assert [key for key, parameter in backbone.named_parameters() if parameter.grad is None] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION_HAS)
def test_names_and_shapes_are_torchvision_s_without_its_end(name: str) -> None:
    with torch.device("meta"):
        backbone, classifier = backbones.create(name), get_model(name)
    theirs = classifier.state_dict()
    translated = backbone.from_imagenet(theirs)
    assert {k: v.shape for k, v in translated.items()} == {k: v.shape for k, v in backbone.state_dict().items()}
    assert len(translated) == sum(not key.startswith(left_out_of(name, classifier)) for key in theirs)


def left_out_of(name: str, classifier: nn.Module) -> tuple[str, ...]:
    if name.startswith(("mobilenet_v2", "efficientnet")):  # with the convolution that widens what is then pooled
        return "classifier.", f"features.{len(classifier.features) - 1}."
    return ("classifier.2.",) if name.startswith("convnext") else ("classifier.", "head.")


def test_the_names_of_torchvision_s_own_densenet_files_fit() -> None:
    with torch.device("meta"):
        backbone, classifier = backbones.create("densenet121"), get_model("densenet121")
    old = classifier.state_dict()
    for kind in ("norm", "conv"):
        for index in "12":
            old = {k.replace(f".{kind}{index}.", f".{kind}.{index}."): v for k, v in old.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    assert backbone.from_imagenet(old).keys() == backbone.state_dict().keys()


def geometry(module: nn.Module) -> list[tuple[Any, ...]]:
    """Stride, dilation and padding of every convolution, in order."""
    return [(m.stride, m.dilation, m.padding) for m in module.modules() if isinstance(m, nn.Conv2d)]


def dilations(module: nn.Module) -> list[int]:
    return [m.dilation[0] for m in module.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]


@pytest.mark.parametrize("name", ["mobilenet_v3_large", "mobilenet_v3_small"])
def test_mobilenet_v3_is_dilated_as_torchvision_dilates_it(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = backbones.create(name, output_stride=16), get_model(name, dilated=True).features
    assert geometry(ours) == geometry(theirs)


def test_mobilenet_v2_is_dilated_as_mmsegmentation_dilates_it() -> None:
    """Its stages of output stride 8 have strides (1, 2, 2, 1, 1, 1, 1) and dilations (1, 1, 1, 2, 2, 4, 4)."""
    backbone = on_meta(backbones.create, "mobilenet_v2", output_stride=8)
    blocks = [1, 2, 3, 4, 3, 3, 1]
    rates = [rate for rate, count in zip((1, 1, 1, 2, 2, 4, 4), blocks, strict=True) for _ in range(count)]
    assert dilations(backbone) == [1, *rates]
    assert [index for index, block in enumerate(backbone) if (2, 2) in {s for s, _, _ in geometry(block)}] == [0, 2, 4]


@pytest.mark.parametrize("name", ["densenet121", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0"])
def test_output_stride_sets_the_strides_of_the_features(name: str) -> None:
    for output_stride, sides in ((16, (16, 8, 4, 4)), (8, (16, 8, 8, 8))):
        with torch.device("meta"):
            backbone = backbones.create(name, output_stride=output_stride)
            features = backbone(torch.zeros(1, 3, 64, 64))[-4:]
        assert [tuple(x.shape[2:]) for x in features] == [(side, side) for side in sides]
        assert backbone.strides[-4:] == tuple(64 // side for side in sides)


def test_densenet_dilates_the_blocks_behind_what_it_does_not_pool() -> None:
    layers = on_meta(backbones.create, "densenet121", output_stride=8).features
    rates = [set(dilations(layers.get_submodule(f"denseblock{stage}"))) for stage in (1, 2, 3, 4)]
    assert rates == [{1}, {1}, {2}, {4}]


@torch.no_grad()
def test_swin_takes_sizes_smaller_than_a_window() -> None:
    backbone = backbones.create("swin_t").eval()
    for height, width in ((32, 32), (33, 65), (47, 131)):
        for stride, feature in zip((4, 8, 16, 32), backbone(torch.randn(1, 3, height, width)), strict=True):
            assert tuple(feature.shape[2:]) == (math.ceil(height / stride), math.ceil(width / stride))
            assert feature.isfinite().all()


@pytest.mark.parametrize("name", ["swin_t", pytest.param("swin_v2_t", marks=pytest.mark.slow)])
@torch.no_grad()
def test_swin_s_windows_are_torchvision_s_at_any_size(name: Any) -> None:
    """Above a window, at it and below; shifted in both directions, in one, in none; odd maps merged."""
    backbone = backbones.create(name).eval()
    for parameter in backbone.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, 0.5, 0.3)
    theirs = get_model(name).features.eval()
    theirs.load_state_dict(backbone.features.state_dict())
    for number, height, width in ((2, 68, 100), (1, 32, 228), (1, 28, 32), (1, 256, 36)):
        image = torch.randn(number, 3, height, width)
        assert torch.equal(backbone.features(image), theirs(image))


@torch.no_grad()
def test_densenet_averages_only_what_is_there_at_an_odd_edge() -> None:
    pool = backbones.create("densenet121").features.transition1.pool
    assert pool(torch.tensor([[[[1.0, 3.0, 5.0], [1.0, 3.0, 7.0], [2.0, 4.0, 9.0]]]])).tolist() == [[[[2, 6], [3, 9]]]]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vgg16", {"output_stride": 8, "stem": "v1c"}, r"vgg16 cannot have output_stride 8 and stem v1c\."),
        ("swin_t", {"output_stride": 16}, r"swin_t cannot have output_stride 16\."),
        ("densenet121", {"multi_grid": (1, 2, 4)}, r"densenet121 cannot have multi_grid \(1, 2, 4\)\."),
        ("resnet18", {"multi_grid": (1, 2, 4)}, r"resnet18 has 2 blocks, but the multi-grid has 3 factors\."),
    ],
)
def test_options_that_a_backbone_cannot_have_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match=message):
        backbones.create(name, **options)


@pytest.mark.parametrize("factory", [fcn, deeplabv3, lraspp, unet, upernet])
def test_mobilenet_v2_s_imagenet_file_fits_any_model_that_has_it(factory: Any, test_data: Path) -> None:
    path = test_data / "weights" / "mobilenetv2_imagenet_dequant_bncal.pth"
    state = torch.load(path, weights_only=True)
    backbone = factory(3, backbone="mobilenet_v2", weights=str(path)).backbone
    assert len(backbone) == 18
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, state[f"features.{key}"]), key


def test_where_there_are_no_weights_to_download_the_message_says_so() -> None:
    with torch.device("meta"):
        with pytest.raises(
            WeightsError, match=r"the backbone ResNet with the stem v1c\. Choose the stem 7x7, give a file"
        ):
            fcn(3, backbone="resnet18", stem="v1c", pretrained=True)
        with pytest.raises(WeightsError, match=r"the backbone UNet\. Give a file .* or train from scratch"):
            unet(3, pretrained=True)
