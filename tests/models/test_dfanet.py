"""DFANet against its paper and https://github.com/huaifeng1993/DFANet, and where other versions fail."""

from __future__ import annotations

import pytest
import torch
from meta_models import count, on_meta
from torch import nn

from segctl_models.dfanet import Block, FCAttention, dfanet


@pytest.mark.parametrize(("num_classes", "expected"), [(21, 2_188_368), (19, 2_187_216)])
def test_same_number_of_parameters_as_the_public_version(num_classes: int, expected: int) -> None:
    assert count(on_meta(dfanet, num_classes)) == expected


def test_each_network_starts_where_the_one_before_had_its_first_stage() -> None:
    """Figure 3: a quarter to a 16th of the image's size, then from an eighth, then from a 16th."""
    shapes: list[list[tuple[int, ...]]] = []
    with torch.device("meta"):
        model = dfanet(5).eval()
        for network in (model.network1, model.network2, model.network3):
            network.register_forward_hook(lambda _, __, outputs: shapes.append([tuple(o.shape[1:]) for o in outputs]))
        model(torch.empty(1, 3, 512, 1024))
    assert shapes == [
        [(48, 512 // s, 1024 // s), *[(c, 512 // s // d, 1024 // s // d) for c, d in ((96, 2), (192, 4), (192, 4))]]
        for s in (4, 8, 16)
    ]


@pytest.mark.parametrize("size", [(32, 32), (33, 65), (96, 96), (100, 100), (225, 225), (333, 517), (360, 480)])
def test_sizes_need_not_be_multiples_of_64(size: tuple[int, int]) -> None:
    with torch.device("meta"):
        assert dfanet(5).eval()(torch.empty(1, 3, *size))["out"].shape == (1, 5, *size)


def test_attention_weighs_channels_from_0_to_1() -> None:
    attention = FCAttention(6)
    first, _, second, _ = attention.weigh
    x = torch.randn(2, 6, 3, 5) * 10
    with torch.no_grad():
        weights = 1 / (1 + torch.exp(-((x.mean(dim=(2, 3)) @ first.weight.T).clamp(min=0) @ second.weight.T)))
        torch.testing.assert_close(attention(x), x * weights[:, :, None, None])
    assert first.out_features == 1000


@pytest.mark.parametrize(("inputs", "stride"), [(16, 1), (8, 2)])
def test_blocks_add_the_projection_of_their_unchanged_input(inputs: int, stride: int) -> None:
    block = Block(inputs, 16, stride).train()
    x = torch.randn(2, inputs, 7, 9, requires_grad=True)
    before = x.detach().clone()
    y = block(x)
    y.mean().backward()
    assert torch.equal(x, before)
    nn.init.zeros_(block.branch[-1].pointwise[1].weight)  # the branch gives 0
    with torch.no_grad():
        projected = nn.functional.conv2d(before, block.projection.weight, stride=stride)
        torch.testing.assert_close(block(x), projected)


def test_all_six_projections_of_the_decoder_are_used() -> None:
    model = dfanet(5).train()
    model(torch.randn(2, 3, 64, 64))["out"].square().mean().backward()
    projections = [*model.decoder.shallow, *model.decoder.deep]
    assert [projection[0].weight.grad.abs().sum() > 0 for projection in projections] == [True] * 6
