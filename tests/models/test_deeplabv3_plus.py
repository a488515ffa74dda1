"""DeepLabv3+ and Xception-65 against the paper, the authors' release and torchvision's backbones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from meta_models import count, on_meta
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segctl.errors import WeightsError
from segctl_models.backbones.xception import Xception, XceptionBlock
from segctl_models.deeplabv3_plus import Decoder, DeepLabV3Plus, deeplabv3_plus
from segctl_models.layers.separable import SeparableConv


def multiply_adds(model: nn.Module, height: int, width: int) -> float:
    """In units of 10^9, for one image."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.empty(1, 3, height, width, device="meta"))
    return counter.get_total_flops() / 2e9


@pytest.fixture(scope="module")
def xception() -> DeepLabV3Plus:
    return on_meta(deeplabv3_plus, 21)


@pytest.mark.parametrize(("num_classes", "expected"), [(21, 41_055_413), (19, 41_054_899)])
def test_same_number_of_parameters_as_the_authors_xception65(num_classes: int, expected: int) -> None:
    model = on_meta(deeplabv3_plus, num_classes)
    assert count(model) == expected
    assert count(model.backbone) == 37_867_312


def test_parameters_on_mobilenet_v2_are_the_sum_of_its_parts() -> None:
    backbone = 3_504_872 - 1_281_000 - (320 * 1280 + 2 * 1280)  # torchvision's, less classifier and last convolution
    branch = 320 * 256 + 2 * 256
    fast = backbone + 2 * branch + 2 * 256 * 256 + 2 * 256 + 257 * 21
    assert count(on_meta(deeplabv3_plus, 21, backbone="mobilenet_v2", atrous=False, decoder=False)) == fast
    separable = {c: c * 9 + 2 * c + c * 256 + 2 * 256 for c in (320, 304, 256)}
    decoder = 24 * 48 + 2 * 48 + separable[304] + separable[256]
    model = on_meta(deeplabv3_plus, 21, backbone="mobilenet_v2")
    assert count(model) == fast + 3 * separable[320] + 3 * 256 * 256 + decoder


def test_same_multiply_adds_as_the_release(xception: DeepLabV3Plus) -> None:
    """Those of MobileNetV2 stand in the release's model zoo, which rounds."""
    assert multiply_adds(xception, 513, 513) == pytest.approx(54.04, rel=1e-3)
    assert multiply_adds(on_meta(deeplabv3_plus, 21, output_stride=8), 480, 480) == pytest.approx(301.63 / 2, rel=1e-3)
    fast = on_meta(deeplabv3_plus, 21, backbone="mobilenet_v2", atrous=False, decoder=False)
    assert multiply_adds(fast, 513, 513) == pytest.approx(2.75, rel=0.01)


@pytest.mark.parametrize("backbone", ["resnet18", "densenet121", "mobilenet_v2", "mobilenet_v3_small", "xception65"])
def test_backbones_of_other_families_fit(backbone: str) -> None:
    model = on_meta(deeplabv3_plus, 21, backbone=backbone, output_stride=8, aux=True).train()
    outputs = model(torch.empty(2, 3, 64, 128, device="meta"))
    assert {name: tuple(x.shape) for name, x in outputs.items()} == {"out": (2, 21, 64, 128), "aux": (2, 21, 8, 16)}
    assert list(model.eval()(torch.empty(1, 3, 33, 65, device="meta"))) == ["out"]


@pytest.mark.parametrize(("stride", "expected"), [(16, [6, 12, 18]), (8, [12, 24, 36])])
def test_the_rates_follow_the_output_stride(stride: int, expected: list[int]) -> None:
    pyramid = on_meta(deeplabv3_plus, 21, output_stride=stride).aspp.convs
    assert [branch.conv_dw.dilation[0] for branch in pyramid if isinstance(branch, SeparableConv)] == expected


def test_the_decoder_joins_the_upsampled_pyramid_and_48_low_level_channels() -> None:
    decoder = Decoder(7).eval()
    deep, low_level = torch.randn(2, 256, 3, 5), torch.randn(2, 7, 9, 17)
    seen: list[torch.Tensor] = []
    decoder.refine.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        assert decoder(deep, low_level).shape == (2, 256, 9, 17)
        upsampled = nn.functional.interpolate(deep, size=(9, 17), mode="bilinear", align_corners=False)
        assert torch.equal(seen[0][:, :256], upsampled)
        assert torch.equal(seen[0][:, 256:], decoder.project(low_level))
    assert seen[0].shape[1] == 256 + 48


def test_a_separable_convolution_is_a_depthwise_and_a_pointwise_one() -> None:
    layer = SeparableConv(3, 4, dilation=2).eval()
    x = torch.randn(1, 3, 6, 7)
    channels = [
        nn.functional.conv2d(x[:, c : c + 1], layer.conv_dw.weight[c : c + 1], padding=2, dilation=2) for c in range(3)
    ]
    eps = 1 / (1 + 1e-5) ** 0.5  # of a normalisation that has seen nothing yet
    spatial = (torch.cat(channels, dim=1) * eps).relu()
    expected = (torch.einsum("oc,nchw->nohw", layer.conv_pw.weight[:, :, 0, 0], spatial) * eps).relu()
    assert torch.allclose(layer(x), expected, atol=1e-6)


def test_the_low_level_feature_is_block_2_s_second_separable_convolution(xception: DeepLabV3Plus) -> None:
    backbone = xception.backbone
    seen: dict[str, tuple[int, ...]] = {}
    layers = {"second": backbone.blocks[1].stack["conv2"], "third": backbone.blocks[1].stack["conv3"]}
    for name, layer in layers.items():
        layer.register_forward_hook(lambda _, __, result, name=name: seen.update({name: tuple(result.shape)}))
    features = backbone(torch.empty(1, 3, 65, 97, device="meta"))
    assert seen == {"second": (1, 256, 17, 25), "third": (1, 256, 9, 13)}
    assert tuple(features[-4].shape) == seen["second"]


@pytest.mark.parametrize(
    ("output_stride", "dilations"),
    [
        (32, [1] * 21),
        (16, [1] * 20 + [2]),
        (8, [1] * 3 + [2] * 17 + [4]),
    ],
)
def test_a_stride_of_xception_that_becomes_a_dilation_dilates_the_blocks_behind_it(
    output_stride: int, dilations: list[int]
) -> None:
    backbone = on_meta(Xception, output_stride=output_stride)
    assert [block.stack["conv1"].conv_dw.dilation[0] for block in backbone.blocks] == dilations
    features = backbone(torch.empty(1, 3, 64, 128, device="meta"))
    strides = [2, *(min(stride, output_stride) for stride in (4, 8, 16, 32))]
    assert list(backbone.strides) == strides
    expected = [(1, c, 64 // s, 128 // s) for c, s in zip((64, 256, 728, 1024, 2048), strides, strict=True)]
    assert [tuple(feature.shape) for feature in features] == expected


def test_multi_grid_multiplies_the_dilations_of_the_last_block() -> None:
    backbone = on_meta(Xception, output_stride=16, multi_grid=(1, 2, 4))
    assert [conv.conv_dw.dilation[0] for conv in backbone.blocks[20].stack.values()] == [2, 4, 8]
    assert [conv.conv_dw.dilation[0] for conv in backbone.blocks[19].stack.values()] == [1, 1, 1]


@pytest.mark.parametrize("training", [False, True])
def test_the_shortcut_takes_the_block_s_input_as_it_is(training: bool) -> None:
    """With the branch at zero the block is the identity, of negative values as well; nothing is changed in place."""
    block = XceptionBlock(4, (4, 4, 4), 1, (1, 1, 1), shortcut=True).train(training)
    nn.init.zeros_(block.stack["conv3"].bn_pw.weight)
    x = torch.randn(2, 4, 5, 6)
    given = x.clone()
    second, out = block(x)
    assert torch.equal(out, given)
    assert torch.equal(x, given)
    assert second.min() < 0  # neither activated nor changed by what follows


def test_there_is_nothing_to_download_for_xception() -> None:
    with pytest.raises(WeightsError) as caught:
        on_meta(deeplabv3_plus, 21, pretrained=True)
    assert caught.value.message == "There are no ImageNet weights to download for the backbone Xception."
    assert "--model.weights" in caught.value.hint


def test_a_file_of_timm_s_classifier_fills_xception(tmp_path: Path) -> None:
    """timm's names: a convolution and its normalisation are ``conv`` and ``bn``, and ``head`` classifies."""
    torch.manual_seed(1)
    own = Xception().state_dict()
    theirs = {}
    for key, value in own.items():
        parts = key.split(".")
        if parts[0] == "stem" or "shortcut" in parts:
            parts[-2] = {"0": "conv", "1": "bn"}[parts[-2]]
        theirs[".".join(parts)] = value
    assert {"stem.0.conv.weight", "blocks.0.shortcut.bn.weight", "blocks.20.stack.conv3.bn_pw.bias"} <= theirs.keys()
    torch.save({**theirs, "head.fc.weight": torch.zeros(1000, 2048), "head.fc.bias": torch.zeros(1000)}, tmp_path / "w")
    loaded = deeplabv3_plus(2, weights=str(tmp_path / "w")).backbone.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in own.items())
