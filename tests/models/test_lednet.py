"""LEDNet against Table 1 and Figure 2 of the paper and the authors' release, whose parameters were counted."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from meta_models import count, on_meta
from torch import nn

from segctl_models.lednet import AttentionPyramid, Downsampler, SplitShuffle, channel_shuffle, lednet


@pytest.mark.parametrize(("num_classes", "expected"), [(19, 922_821), (20, 923_083), (21, 923_345)])
def test_same_number_of_parameters_as_the_release(num_classes: int, expected: int) -> None:
    """Without its encoder's output convolution, which only its own pre-training uses."""
    assert count(on_meta(lednet, num_classes)) == expected


def test_encoder_is_that_of_table_1() -> None:
    layers = list(on_meta(lednet, 19).encoder)
    units = [
        (layer.left[0].in_channels * 2, layer.left[5].dilation[0], layer.dropout.p)
        if isinstance(layer, SplitShuffle)
        else layer.norm.num_features
        for layer in layers
    ]
    dilated = [(128, dilation, 0.3) for dilation in (1, 2, 5, 9, 2, 5, 9, 17)]
    assert units == [32, *[(32, 1, 0.03)] * 3, 64, *[(64, 1, 0.03)] * 2, 128, *dilated]


@pytest.mark.parametrize("size", [(8, 10), (7, 9)])
def test_downsampler_pools_its_input_beside_the_convolution(size: tuple[int, int]) -> None:
    layer = Downsampler(3, 8).eval()
    layer.norm.eps = 0.0
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        y = layer(x)
        assert torch.equal(y[:, :5], layer.conv(x).clamp(min=0))
    assert torch.equal(y[:, 5:], F.max_pool2d(x, 2, ceil_mode=True).clamp(min=0))


def test_channels_of_the_groups_alternate_after_the_shuffle() -> None:
    x = torch.arange(6.0)[None, :, None, None].expand(2, 6, 3, 4)
    assert channel_shuffle(x, 2)[1, :, 2, 3].tolist() == [0, 3, 1, 4, 2, 5]


def test_unit_adds_its_branches_to_the_input_before_the_activation_and_shuffles() -> None:
    unit = SplitShuffle(6, dropout=0.0).eval()
    for branch in (unit.left, unit.right):
        nn.init.zeros_(branch[-1].weight)  # the branches give their last normalisation's shift
    nn.init.constant_(unit.left[-1].bias, -0.5)
    nn.init.constant_(unit.right[-1].bias, 0.25)
    x = torch.randn(2, 6, 5, 7)
    shift = torch.tensor([-0.5, -0.5, -0.5, 0.25, 0.25, 0.25])[:, None, None]
    with torch.no_grad():
        assert torch.equal(unit(x), (x + shift).clamp(min=0)[:, [0, 3, 1, 4, 2, 5]])


def test_halves_go_through_decomposed_convolutions_in_opposite_order() -> None:
    unit = SplitShuffle(8, 5, dropout=0.3)
    left, right = ([m.kernel_size for m in half if isinstance(m, nn.Conv2d)] for half in (unit.left, unit.right))
    assert left == [(3, 1), (1, 3)] * 2
    assert right == [(1, 3), (3, 1)] * 2
    kinds = [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.BatchNorm2d]
    assert [type(m) for m in unit.left] == [*kinds, nn.ReLU, *kinds]
    assert {m.bias is None for m in unit.modules() if isinstance(m, nn.Conv2d)} == {False}


def test_pyramid_has_a_single_channel_and_its_scales_add_up() -> None:
    """Constant scales 3 (of an eighth), 1 (quarter) and 2 (half) make every class's map count six times."""
    pyramid = AttentionPyramid(8, 5).eval()
    for unit, value in ((pyramid.down3[1], 3.0), (pyramid.side2, 1.0), (pyramid.side1, 2.0)):
        assert unit[0].out_channels == 1
        nn.init.zeros_(unit[1].weight)
        nn.init.constant_(unit[1].bias, value)
    sizes = [m[0].kernel_size[0] for m in (pyramid.down1, pyramid.down2, pyramid.down3[0])]
    assert sizes == [7, 5, 3]
    x = torch.randn(2, 8, 13, 18)
    with torch.no_grad():
        expected = 6 * pyramid.middle(x) + pyramid.average(x.mean(dim=(2, 3), keepdim=True))
        torch.testing.assert_close(pyramid(x), expected)


@pytest.mark.parametrize("size", [(32, 32), (33, 65), (100, 100), (225, 225), (333, 517), (512, 1024)])
def test_logits_have_the_images_size(size: tuple[int, int]) -> None:
    with torch.device("meta"):
        assert lednet(5).eval()(torch.empty(1, 3, *size))["out"].shape == (1, 5, *size)


def test_a_single_image_trains_where_the_pyramid_ends_in_one_pixel() -> None:
    model = lednet(5).train()
    model(torch.randn(1, 3, 64, 64))["out"].square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
