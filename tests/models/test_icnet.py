"""ICNet against the authors' release: parameter counts, which layer sees which resolution, and the fusion."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from meta_models import count
from torch import nn
from torchvision.models import resnet50

from segctl.config.schema import Plugin
from segctl.errors import WeightsError
from segctl.registry import create_loss
from segctl_models.icnet import CascadeFeatureFusion, icnet


@pytest.mark.parametrize(("num_classes", "expected"), [(21, 6_700_245), (19, 6_699_987)])
def test_same_number_of_parameters_as_the_release(num_classes: int, expected: int) -> None:
    with torch.device("meta"):
        model, with_aux = icnet(num_classes, aux=False), icnet(num_classes)
    assert count(model) == expected
    # The release's file is the one for inference: without the classifiers on 256 and 128 channels.
    assert count(with_aux) == expected + (257 + 129) * num_classes


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return icnet(4)


@pytest.mark.parametrize(
    ("size", "sizes"),
    [((64, 96), [(16, 24), (8, 12), (4, 6)]), ((65, 97), [(17, 25), (9, 13), (5, 7)])],
)
def test_logits_of_a_quarter_an_eighth_and_a_sixteenth_in_training(
    model: nn.Module, size: tuple[int, int], sizes: list[tuple[int, int]]
) -> None:
    outputs = model.train()(torch.randn(2, 3, *size))
    assert [name for name in outputs if name != "out"] == ["sub4", "sub8", "sub16"]
    assert [tuple(value.shape[-2:]) for value in outputs.values()] == [size, *sizes]
    assert list(model.eval()(torch.randn(1, 3, *size))) == ["out"]


def test_the_cascade_runs_every_layer_once_at_its_resolution(model: nn.Module) -> None:
    calls: Counter[str] = Counter()
    sizes: dict[str, tuple[int, ...]] = {}

    def seen(name: str, inputs: tuple[torch.Tensor, ...]) -> None:
        calls[name] += 1
        sizes[name] = tuple(inputs[0].shape[-2:])

    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: seen(name, inputs))
        for name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    ]
    model.train()(torch.randn(2, 3, 128, 256))
    for hook in hooks:
        hook.remove()
    assert set(calls.values()) == {1}
    assert sizes["high_resolution.0.0"] == (128, 256)
    assert sizes["backbone.conv1.0"] == (64, 128)  # half the image
    assert sizes["backbone.layer2.0.conv1"] == (16, 32)
    assert sizes["fuse24.high.0"] == (8, 16)  # conv3_1, 1/16 of the image
    assert sizes["backbone.layer2.1.conv1"] == (4, 8)  # from here on 1/32
    assert sizes["conv5_4.0"] == (4, 8)
    assert sizes["classifier"] == (32, 64)


def test_the_last_stages_are_dilated_in_all_their_blocks(model: nn.Module) -> None:
    dilations = {
        (stage, block.conv2.dilation[0])
        for stage in ("layer1", "layer2", "layer3", "layer4")
        for block in getattr(model.backbone, stage)
    }
    assert dilations == {("layer1", 1), ("layer2", 1), ("layer3", 2), ("layer4", 4)}


def test_fusion_adds_a_dilated_convolution_of_the_upsampled_to_a_projection() -> None:
    torch.manual_seed(0)
    fusion = CascadeFeatureFusion(3, 2, 4).eval()
    low, high = torch.randn(1, 3, 4, 5), torch.randn(1, 2, 7, 9)
    fused, upsampled = fusion(low, high)
    expected = nn.functional.interpolate(low, (7, 9), mode="bilinear", align_corners=False)
    torch.testing.assert_close(upsampled, expected)
    scale = (1 + 1e-5) ** -0.5  # of batch normalisation with its first statistics
    low_part = nn.functional.conv2d(expected, fusion.low[0].weight, padding=2, dilation=2) * scale
    high_part = nn.functional.conv2d(high, fusion.high[0].weight) * scale
    torch.testing.assert_close(fused, torch.relu(low_part + high_part))


def test_the_pyramid_adds_four_averages(model: nn.Module) -> None:
    """Where the deepest features are alike everywhere, each of the four averages is the features themselves."""
    seen: list[torch.Tensor] = []
    hooks = [
        model.backbone.layer4.register_forward_hook(lambda _, __, output: torch.full_like(output, 0.5)),
        model.conv5_4.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])),
    ]
    model.eval()(torch.randn(1, 3, 250, 390))
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(seen[0], torch.full_like(seen[0], 2.5))


def test_imagenet_weights_fit_at_full_width(tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = resnet50().state_dict()
    torch.save(state, tmp_path / "resnet50.pth")
    loaded = icnet(3, width="full", stem="7x7", weights=str(tmp_path / "resnet50.pth")).backbone.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in loaded.items())


def test_half_a_resnet_has_no_imagenet_weights() -> None:
    with pytest.raises(WeightsError, match=r"half width.*width: full"), torch.device("meta"):
        icnet(3, pretrained=True)


def test_without_auxiliary_classifiers_the_main_one_trains_alone() -> None:
    torch.manual_seed(0)
    model = icnet(3, aux=False)
    outputs = model(torch.randn(2, 3, 64, 64))
    assert list(outputs) == ["out", "sub4"]

    loss = create_loss(Plugin(name="icnet"), num_classes=3, ignore_index=255, class_pixels=lambda: (1, 1, 1))
    terms = loss(outputs, torch.randint(0, 3, (2, 64, 64)))
    assert list(terms) == ["sub4"]
    terms["sub4"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
