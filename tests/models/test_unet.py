"""U-Net against Figure 1 and the counts of releases, and its decoder on other encoders."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from meta_models import count, on_meta
from torch import Tensor, nn

from segctl.errors import ConfigError
from segctl_models.unet import UNet, unet


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # The paper's network, counted for one input channel and one class; here there are three channels.
        ({"norm": False}, 31_030_593 + 2 * 64 * 9),
        ({}, 31_037_633),  # https://github.com/milesial/Pytorch-UNet, with one class
        ({"backbone": "resnet34"}, 24_436_369),  # segmentation_models_pytorch
    ],
)
def test_same_number_of_parameters_as_the_release(options: dict[str, Any], expected: int) -> None:
    assert count(on_meta(unet, 1, **options)) == expected


def figure_1(model: nn.Module, image: Tensor) -> Tensor:
    """The network of Figure 1 without normalisation, with padding, step by step."""
    state = model.state_dict()

    def twice(x: Tensor, name: str) -> Tensor:
        for index in (0, 1):
            x = F.relu(F.conv2d(x, state[f"{name}.{index}.0.weight"], state[f"{name}.{index}.0.bias"], padding=1))
        return x

    x = twice(image, "down.0")
    contracting = [x]
    for level in (1, 2, 3, 4):
        x = twice(F.max_pool2d(x, 2, ceil_mode=True), f"down.{level}")
        contracting.append(x)
    for step, high_resolution in enumerate(contracting[-2::-1]):
        x = F.conv_transpose2d(x, state[f"up.{step}.weight"], state[f"up.{step}.bias"], stride=2)
        x = x[:, :, : high_resolution.shape[2], : high_resolution.shape[3]]
        x = twice(torch.cat([high_resolution, x], dim=1), f"merge.{step}")
    return F.conv2d(x, state["classifier.weight"], state["classifier.bias"])


@pytest.mark.parametrize("size", [(32, 48), (33, 47)])
@torch.no_grad()
def test_without_normalisation_it_is_the_network_of_figure_1(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = UNet(5, width=4, norm=False).eval()
    image = torch.randn(2, 3, *size)
    torch.testing.assert_close(model(image)["out"], figure_1(model, image))


def test_initial_weights_keep_the_variance() -> None:
    """Section 3: for a 3x3 convolution behind 64 feature channels the standard deviation is sqrt(2 / 576)."""
    torch.manual_seed(0)
    conv = unet(2).down[0][1][0]
    assert conv.weight.shape == (64, 64, 3, 3)
    assert conv.weight.std().item() == pytest.approx((2 / 576) ** 0.5, rel=0.02)
    assert abs(conv.weight.mean().item()) < 1e-3


def test_the_two_deepest_levels_are_dropped_from_in_training_only() -> None:
    model = UNet(2, width=2, dropout=1.0)
    image = torch.randn(1, 3, 32, 32)
    other = image.clone()
    other[..., 16:] = 0
    # With both gone, what reaches the deepest up-convolution no longer depends on the image.
    seen: list[Tensor] = []
    model.up[0].register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    model.train()(image)
    model.eval()(image)
    model(other)
    assert not seen[0].any()
    assert not torch.equal(seen[1], seen[2])


@pytest.mark.parametrize(
    "backbone",
    [
        "resnet18",
        "mobilenet_v3_small",
        pytest.param("densenet121", marks=pytest.mark.slow),
        pytest.param("vgg16_bn", marks=pytest.mark.slow),
        pytest.param("convnext_tiny", marks=pytest.mark.slow),
        pytest.param("swin_t", marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_each_map_of_the_encoder_is_joined_at_any_size(backbone: Any) -> None:
    model = unet(3, backbone=backbone).eval()
    joined: list[int] = []
    for step in model.decoder:
        step.register_forward_hook(lambda _m, inputs, _o: joined.append(inputs[0].shape[1]))
    assert model(torch.randn(1, 3, 33, 65))["out"].shape == (1, 3, 33, 65)
    deepest, *skips = reversed(model.backbone.channels)
    before = [deepest, 256, 128, 64, 32]
    assert joined == [width + skip for width, skip in zip(before, [*skips, 0, 0][:5], strict=True)]


def test_a_stem_without_pooling_or_with_has_a_map_of_stride_2() -> None:
    with torch.device("meta"):
        assert [unet(2, backbone=name).backbone.strides[0] for name in ("resnet18", "mobilenet_v2")] == [2, 2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stem": "v1c"}, r"model\.stem: U-Net's own encoder has no v1c stem"),
        ({"backbone": "mobilenet_v2", "stem": "v1c"}, r"mobilenet_v2 cannot have stem v1c"),
        (
            {"backbone": "resnet18", "width": 8, "norm": True, "dropout": 0.9},
            r"model\.width, model\.norm and model\.dropout: only U-Net's own encoder has this, not resnet18",
        ),
        ({"backbone": "resnet18", "dropout": 0.0}, r"^model\.dropout: only"),
    ],
)
def test_an_option_that_would_not_be_read_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        on_meta(unet, 2, **options)


def test_the_options_of_the_paper_s_encoder_reach_it() -> None:
    model = on_meta(unet, 2, width=8, norm=False, dropout=0.9)
    assert model.classifier.in_channels == 8
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert [dropout.p for dropout in model.dropouts] == [0, 0, 0, 0.9, 0.9]
    assert [dropout.p for dropout in on_meta(unet, 2).dropouts] == [0, 0, 0, 0.5, 0.5]
