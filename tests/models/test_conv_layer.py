"""The layer of convolution, normalisation and activation, which trains on a single pixel as well."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segctl_models.layers.conv import ConvNormAct


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(1, 1, 1), (3, 2, 1), (5, 1, 1), (3, 1, 4), (7, 2, 1)])
def test_result_is_as_large_as_the_input_over_the_stride_rounded_up(kernel: int, stride: int, dilation: int) -> None:
    layer = ConvNormAct(2, 3, kernel, stride=stride, dilation=dilation)
    assert layer(torch.randn(2, 2, 9, 14)).shape == (2, 3, -(-9 // stride), -(-14 // stride))


def test_activation_is_left_out_on_request() -> None:
    x = torch.randn(4, 2, 5, 5)
    assert ConvNormAct(2, 3)(x).min() == 0
    assert ConvNormAct(2, 3, act=None)(x).min() < 0


def test_batches_are_normalised_by_their_own_statistics() -> None:
    layer, x = ConvNormAct(2, 3, 1, act=None), torch.randn(1, 2, 1, 2)
    y = F.conv2d(x, layer[0].weight)
    difference = (y[..., 0] - y[..., 1]) / 2  # of two values, each is this far from their mean
    expected = difference / torch.sqrt(difference**2 + layer[1].eps)
    torch.testing.assert_close(layer(x)[..., 0], expected)
    assert layer[1].num_batches_tracked == 1


def test_single_pixel_is_normalised_by_the_running_statistics_and_does_not_change_them() -> None:
    layer = ConvNormAct(2, 3, act=nn.Sigmoid).train()
    layer[1].running_mean.fill_(0.5)
    x = torch.randn(1, 2, 1, 1)
    expected = torch.sigmoid((layer[0](x) - 0.5) / (1 + layer[1].eps) ** 0.5)
    y = layer(x)
    torch.testing.assert_close(y, expected)
    y.sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())
    assert layer[1].running_mean.tolist() == [0.5] * 3
    assert layer[1].num_batches_tracked == 0
