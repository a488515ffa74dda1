"""PSPNet against its paper and the authors' release, and pyramid pooling against torch's own pooling."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from meta_models import count, on_meta
from torch import nn

from segctl.errors import ConfigError
from segctl_models.layers.pyramid_pooling import PyramidPooling, pool_to_grid
from segctl_models.pspnet import PSPHead, pspnet


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"aux": False}, 46_716_373),
        ({}, 49_081_578),
        ({"backbone": "resnet101", "aux": False}, 65_708_501),
        ({"backbone": "resnet152", "aux": False}, 81_352_149),
        # The 7x7 stem has 123,776 parameters less.
        ({"aux": False, "stem": "7x7"}, 46_592_597),
    ],
)
def test_same_number_of_parameters_as_the_release(options: dict[str, object], expected: int) -> None:
    assert count(on_meta(pspnet, 21, **options)) == expected


def test_all_blocks_of_a_dilated_stage_are_dilated_alike() -> None:
    backbone = on_meta(pspnet, 21).backbone
    assert [block.conv2.dilation for block in backbone.layer3] == [(2, 2)] * 6
    assert [block.conv2.dilation for block in backbone.layer4] == [(4, 4)] * 3


def test_dropout_is_of_whole_feature_maps() -> None:
    kinds = [type(module) for module in on_meta(pspnet, 21).modules() if "Dropout" in type(module).__name__]
    assert kinds == [nn.Dropout2d, nn.Dropout2d]


def test_only_a_resnet_has_another_stem() -> None:
    assert on_meta(pspnet, 21, backbone="mobilenet_v2").backbone.channels
    with pytest.raises(ConfigError, match="stem"):
        on_meta(pspnet, 21, backbone="mobilenet_v2", stem="v1c")


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(12, 18), (7, 11), (4, 5), (1, 2)])
def test_cells_are_those_of_adaptive_average_pooling(size: tuple[int, int], bins: int) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(pool_to_grid(x, bins), F.adaptive_avg_pool2d(x, bins), rtol=0, atol=1e-12)


def test_cells_share_a_row_where_the_height_is_odd() -> None:
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0], [5.0, 12.0]]]])
    assert pool_to_grid(x, 2).tolist() == [[[[2.0, 3.0], [4.0, 8.0]]]]


def test_the_gradient_is_that_of_adaptive_average_pooling() -> None:
    x = torch.randn(1, 2, 7, 5, requires_grad=True)
    pool_to_grid(x, 3).sum().backward()
    expected = torch.autograd.functional.jacobian(lambda y: F.adaptive_avg_pool2d(y, 3).sum(), x.detach())
    torch.testing.assert_close(x.grad, expected)


def test_the_pyramid_is_the_map_and_its_projected_averages() -> None:
    torch.manual_seed(0)
    pyramid = PyramidPooling(8, 2, (1, 3)).eval()
    x = torch.randn(2, 8, 7, 9)
    with torch.no_grad():
        y = pyramid(x)
        whole = torch.relu(pyramid.stages[0][0](x.mean(dim=(2, 3), keepdim=True)) / (1 + 1e-5) ** 0.5)
        thirds = torch.relu(pyramid.stages[1][0](F.adaptive_avg_pool2d(x, 3)) / (1 + 1e-5) ** 0.5)
    assert pyramid.channels == y.shape[1] == 12
    assert torch.equal(y[:, :8], x)
    torch.testing.assert_close(y[:, 8:10], whole.expand(2, 2, 7, 9))
    torch.testing.assert_close(y[:, 10:], F.interpolate(thirds, size=(7, 9), mode="bilinear"))


def test_a_batch_of_one_image_trains() -> None:
    head = PSPHead(16, 3).train()
    head(torch.randn(1, 16, 5, 6)).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in head.parameters())
