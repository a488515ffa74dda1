"""DANet against its paper, the authors' release, and attention computed position by position."""

from __future__ import annotations

import pytest
import torch
from meta_models import count, on_meta
from torch import Tensor, nn

from segctl.errors import ConfigError
from segctl.plugin import model_traits
from segctl_models.danet import ChannelAttention, DANet, PositionAttention, danet


class Features(nn.Module):
    """A backbone that is one convolution."""

    channels = (16, 32)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3, stride=8, padding=1)

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (self.conv(image),)


@pytest.mark.parametrize(
    ("backbone", "expected"), [("resnet50", 47_465_729), ("resnet101", 66_457_857), ("resnet152", 82_101_505)]
)
def test_same_number_of_parameters_as_the_release(backbone: str, expected: int) -> None:
    assert count(on_meta(danet, 21, backbone=backbone)) == expected


def test_the_last_stage_has_the_dilations_4_8_16() -> None:
    assert [block.conv2.dilation[0] for block in on_meta(danet, 21).backbone.layer4] == [4, 8, 16]
    assert [block.conv2.dilation[0] for block in on_meta(danet, 21, multi_grid=False).backbone.layer4] == [2, 4, 4]


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2"])
def test_backbones_without_three_blocks_in_the_last_stage_do_without(backbone: str) -> None:
    assert on_meta(danet, 21, backbone=backbone)
    assert on_meta(danet, 21, backbone=backbone, multi_grid=False)
    with pytest.raises(ConfigError, match=rf"model\.multi_grid: the last stage of {backbone} has not the three blocks"):
        on_meta(danet, 21, backbone=backbone, multi_grid=True)


def test_its_loss_weights_all_three_classifiers_alike() -> None:
    traits = model_traits(danet)
    assert (traits.loss, dict(traits.loss_options)) == ("cross_entropy", {"aux_weight": 1.0})


def test_each_attention_has_a_classifier_in_training_only() -> None:
    model = DANet(Features(), 5, aux=True)
    image = torch.randn(2, 3, 33, 41)
    sizes = {name: tuple(logits.shape) for name, logits in model.train()(image).items()}
    assert sizes == {"out": (2, 5, 33, 41), "aux_position": (2, 5, 5, 6), "aux_channel": (2, 5, 5, 6)}
    assert set(model.eval()(image)) == {"out"}
    assert set(DANet(Features(), 5, aux=False).train()(image)) == {"out"}


def test_position_attention_takes_from_positions_by_softmax_of_query_times_key() -> None:
    torch.manual_seed(0)
    module = PositionAttention(16).double()
    nn.init.constant_(module.alpha, 0.7)
    x = torch.randn(2, 16, 3, 4, dtype=torch.float64)
    query, key, value = module.query(x), module.key(x), module.value(x)
    expected = x.clone()
    for n in range(2):
        for i in range(12):
            weights = torch.stack([torch.exp(query[n, :, i // 4, i % 4] @ key[n, :, j // 4, j % 4]) for j in range(12)])
            taken = sum(weights[j] / weights.sum() * value[n, :, j // 4, j % 4] for j in range(12))
            expected[n, :, i // 4, i % 4] += 0.7 * taken
    torch.testing.assert_close(module(x), expected)


def test_channel_attention_takes_most_from_the_least_similar_map() -> None:
    torch.manual_seed(0)
    module = ChannelAttention().double()
    nn.init.constant_(module.beta, 0.7)
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    expected = x.clone()
    for n in range(2):
        for i in range(6):
            energy = torch.stack([(x[n, i] * x[n, j]).sum() for j in range(6)])
            weights = torch.exp(energy.max() - energy)  # as in the release
            taken = sum(weights[j] / weights.sum() * x[n, j] for j in range(6))
            expected[n, i] += 0.7 * taken
    # The release's sums are in float64 here; the module's in float32, whatever its input is.
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-4)


def test_channel_attention_is_exact_under_autocast() -> None:
    """Products that differ by 1 part in 500 decide everything here; in bfloat16 they are equal."""
    x = torch.zeros(1, 3, 1, 512)
    x[0, 0], x[0, 1], x[0, 2] = 1.0, 1.0, torch.cat([torch.ones(511), torch.zeros(1)])
    module = ChannelAttention()
    nn.init.ones_(module.beta)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = module(x.bfloat16()) - x
    # Map 0 has products 512, 512 and 511: weights 1, 1 and e, and map 2 is 0 at the last place.
    assert y[0, 0, 0, -1].item() == pytest.approx(2 / (2 + torch.e), rel=0.02)


def test_attention_starts_as_the_identity() -> None:
    x = torch.randn(2, 16, 3, 4)
    assert torch.equal(PositionAttention(16)(x), x)
    assert torch.equal(ChannelAttention()(x), x)
