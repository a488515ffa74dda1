"""ENet against Table 1 and section 3 of the paper, point by point where other versions differ from it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segctl_models.enet import DownsamplingBottleneck, UpsamplingBottleneck, enet


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return enet(11)


def convolutions(module: nn.Module) -> list[tuple[tuple[int, ...], int]]:
    """Kernel sizes and dilations, in order."""
    return [(m.kernel_size, m.dilation[0]) for m in module.modules() if isinstance(m, nn.Conv2d)]


def test_stages_two_and_three_are_those_of_table_1(model: nn.Module) -> None:
    one, three = (1, 1), (3, 3)
    regular = [[(one, 1), (three, dilation), (one, 1)] for dilation in (1, 2, 4, 8, 16)]
    asymmetric = [(one, 1), ((5, 1), 1), ((1, 5), 1), (one, 1)]
    expected = [regular[0], regular[1], asymmetric, regular[2], regular[0], regular[3], asymmetric, regular[4]]
    for stage in (model.stage2, model.stage3):
        assert [convolutions(bottleneck) for bottleneck in stage] == expected


def test_every_bottleneck_is_used(model: nn.Module) -> None:
    used = set()
    handles = [m.register_forward_hook(lambda m, *_: used.add(id(m))) for m in model.modules()]
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, 32, 32))
    for handle in handles:
        handle.remove()
    containers = {id(m) for m in model.modules() if isinstance(m, nn.ModuleList)}
    assert [name for name, m in model.named_modules() if id(m) not in used | containers] == []


def test_dropout_is_weak_before_bottleneck_2_0_only(model: nn.Module) -> None:
    rates = {
        name: {m.p for m in getattr(model, name).modules() if isinstance(m, nn.Dropout2d)}
        for name in ("down1", "stage1", "down2", "stage2", "stage3", "up4", "stage4", "up5", "stage5")
    }
    assert rates == {name: {0.01 if name in ("down1", "stage1") else 0.1} for name in rates}


def test_between_all_convolutions_stand_normalisation_and_prelu_per_channel(model: nn.Module) -> None:
    asymmetric = model.stage2[2].branch
    kinds = [type(m) for m in asymmetric.modules() if not isinstance(m, nn.Sequential)]
    block = [nn.Conv2d, nn.BatchNorm2d, nn.PReLU]
    assert kinds == [*block, *block, *block, nn.Conv2d, nn.BatchNorm2d, nn.Dropout2d]
    widths = {m.num_parameters for m in model.modules() if isinstance(m, nn.PReLU)}
    assert 1 not in widths
    assert not any(isinstance(m, nn.ReLU) for m in model.modules())


def test_no_convolution_but_the_last_has_a_bias(model: nn.Module) -> None:
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    assert [n for n, m in model.named_modules() if isinstance(m, kinds) and m.bias is not None] == ["fullconv"]


@pytest.mark.parametrize("size", [(8, 10), (7, 9)])
def test_downsampling_pools_and_pads_channels_with_zeros(size: tuple[int, int]) -> None:
    block = DownsamplingBottleneck(16, 64, dropout=0.0).eval()
    assert convolutions(block) == [((2, 2), 1), ((3, 3), 1), ((1, 1), 1)]
    nn.init.zeros_(block.branch[-2].weight)  # the last normalisation: the branch adds nothing
    nn.init.ones_(block.act.weight)  # and the activation is the identity
    x = torch.randn(2, 16, *size)
    with torch.no_grad():
        y, _ = block(x)
    assert torch.equal(y[:, :16], F.max_pool2d(x, 2, ceil_mode=True))
    assert not y[:, 16:].any()


@pytest.mark.parametrize("size", [(8, 10), (7, 9)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_upsampling_puts_values_back_where_the_maxima_were(size: tuple[int, int], layout: torch.memory_format) -> None:
    block = UpsamplingBottleneck(16, 8, dropout=0.0).eval()
    nn.init.zeros_(block.expansion[-2].weight)
    nn.init.ones_(block.act.weight)
    before = torch.randn(2, 8, *size).to(memory_format=layout)
    _, indices = F.max_pool2d(before, 2, ceil_mode=True, return_indices=True)
    x = torch.randn(2, 16, *indices.shape[-2:]).to(memory_format=layout)
    with torch.no_grad():
        expected = F.max_unpool2d(block.main(x), indices, 2, output_size=before.shape[-2:])
        assert torch.equal(block(x, indices, before.shape[-2:]), expected)


def test_it_trains_with_deterministic_algorithms(model: nn.Module) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        model.train()(torch.randn(1, 3, 33, 65))["out"].mean().backward()
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_initial_block_is_trained(model: nn.Module) -> None:
    """It was left out of the optimiser elsewhere: here it is no different from the other parameters."""
    model.train().zero_grad()
    model(torch.randn(2, 3, 32, 48))["out"].square().mean().backward()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model.initial.conv.weight.detach().clone()
    optimizer.step()
    assert (model.initial.conv.weight != before).all()
