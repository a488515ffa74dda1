"""PSANet against the authors' release, and point-wise spatial attention against one computed position by position."""

from __future__ import annotations

import pytest
import torch
from meta_models import count, on_meta
from torch import Tensor, nn
from torch.nn import functional as F

from segctl.errors import ConfigError
from segctl_models.psanet import PointwiseSpatialAttention, psanet, spread


def predicted(masks: Tensor, p: tuple[int, int], q: tuple[int, int]) -> Tensor:
    """What position p of one image's `masks` ``(m, m, h, w)`` predicts for position q."""
    reach = masks.shape[0] // 2
    i, j = q[0] - p[0] + reach, q[1] - p[1] + reach
    within = 0 <= i <= 2 * reach and 0 <= j <= 2 * reach
    return masks[i, j, p[0], p[1]] if within else torch.tensor(-torch.inf, dtype=masks.dtype)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"aux": False}, 50_809_301),
        ({}, 53_174_506),
        ({"backbone": "resnet101", "aux": False}, 69_801_429),
        ({"backbone": "resnet152", "aux": False}, 85_445_077),
        ({"aux": False, "mask": 89}, 55_355_861),
    ],
)
def test_same_number_of_parameters_as_the_release(options: dict[str, object], expected: int) -> None:
    assert count(on_meta(psanet, 21, **options)) == expected


@pytest.mark.parametrize("size", [(3, 3), (2, 3), (4, 6), (1, 5)])
def test_masks_are_spread_by_offset(size: tuple[int, int]) -> None:
    """5 x 5 is over-complete for 3 x 3 positions; for fewer the margin is unused, of more some are out of reach."""
    torch.manual_seed(0)
    height, width = size
    masks = torch.randn(2, 5, 5, height, width)
    positions = [(y, x) for y in range(height) for x in range(width)]
    expected = torch.stack(
        [torch.stack([torch.stack([predicted(image, p, q) for p in positions]) for q in positions]) for image in masks]
    )
    assert torch.equal(spread(masks), expected)


@pytest.mark.parametrize("size", [(5, 5), (4, 6), (9, 13)])
def test_attention_collects_and_distributes(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    module = PointwiseSpatialAttention(4, 3, mask=5).double().eval()
    x = torch.randn(1, 4, *size, dtype=torch.float64)
    height, width = (size[0] + 1) // 2, (size[1] + 1) // 2
    positions = [(y, x) for y in range(height) for x in range(width)]
    maps = torch.zeros(1, 6, height, width, dtype=torch.float64)
    with torch.no_grad():
        for index, branch in enumerate((module.collect, module.distribute)):
            features = F.interpolate(branch.reduce(x), size=(height, width), mode="bilinear")
            masks = branch.attention(features).reshape(5, 5, height, width)
            for here in positions:
                if index == 0:  # its own prediction of where to take from
                    scores = torch.stack([predicted(masks, here, other) for other in positions])
                else:  # what each other position predicted to give to it
                    scores = torch.stack([predicted(masks, other, here) for other in positions])
                weights = scores.exp() / scores.exp().sum()
                taken = sum(w * features[0, :, y, x] for w, (y, x) in zip(weights, positions, strict=True))
                maps[0, 3 * index : 3 * index + 3, here[0], here[1]] = taken
        expected = F.interpolate(module.project(maps), size=size, mode="bilinear")
        result = module(x)
    torch.testing.assert_close(result[:, 4:], expected)
    assert torch.equal(result[:, :4], x)


def test_nothing_comes_from_out_of_reach() -> None:
    module = PointwiseSpatialAttention(4, 3, mask=3).eval()
    x = torch.randn(1, 4, 12, 12, requires_grad=True)
    module(x)[0, 4:, 0, 0].sum().backward()
    reached = x.grad[0].abs().sum(dim=0) > 0
    # Position (0, 0) of the half-size map, and its neighbours at (0, 1), (1, 0) and (1, 1).
    assert reached[:4, :4].all()
    assert not reached[4:].any()
    assert not reached[:, 4:].any()


@pytest.mark.parametrize("mask", [0, 58])
def test_a_mask_without_a_middle_is_refused(mask: int) -> None:
    with pytest.raises(ConfigError, match=r"model\.mask"):
        on_meta(psanet, 21, mask=mask)


def test_the_backbone_and_the_dropout_are_the_release_s() -> None:
    model = on_meta(psanet, 21)
    assert [block.conv2.dilation[0] for block in model.backbone.layer3] == [2] * 6
    assert [block.conv2.dilation[0] for block in model.backbone.layer4] == [4] * 3
    assert [type(m) for m in model.modules() if "Dropout" in type(m).__name__] == [nn.Dropout2d, nn.Dropout2d]


def test_all_parameters_are_trained_by_one_image() -> None:
    module = PointwiseSpatialAttention(8, 4, mask=5).train()
    module(torch.randn(1, 8, 9, 5)).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in module.parameters())
