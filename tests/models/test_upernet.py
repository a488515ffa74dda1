"""UPerNet against a plain computation of its head, and against the parameters that papers report."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from meta_models import count, on_meta
from torch import Tensor, nn

from segctl_models.upernet import UPerHead, upernet

SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("backbone", "expected", "widths"),
    [
        ("swin_t", 59_941_862, (96, 192, 384)),
        pytest.param("swin_b", 121_279_716, (128, 256, 512), marks=SLOW),
        pytest.param("convnext_tiny", 60_242_636, (96, 192, 384), marks=SLOW),
    ],
)
def test_parameters_are_those_of_the_release(backbone: Any, expected: int, widths: tuple[int, ...]) -> None:
    """Counted in the port of mmsegmentation's models in transformers, with the auxiliary head; here without the scale
    and shift of the normalisation behind the first three stages.
    """
    assert count(on_meta(upernet, 150, backbone=backbone)) == expected - 2 * sum(widths)


@pytest.mark.parametrize(
    ("backbone", "millions"),
    [
        pytest.param("swin_s", 81, marks=SLOW),
        pytest.param("convnext_small", 82, marks=SLOW),
        pytest.param("convnext_base", 122, marks=SLOW),
        pytest.param("convnext_large", 235, marks=SLOW),
        ("resnet101", 86),
    ],
)
def test_parameters_are_those_that_papers_report_for_ade20k(backbone: Any, millions: int) -> None:
    """Swin (https://arxiv.org/abs/2103.14030), Table 3, and ConvNeXt (https://arxiv.org/abs/2201.03545), Table 4."""
    assert count(on_meta(upernet, 150, backbone=backbone)) == pytest.approx(millions * 1e6, rel=0.01)


def randomised(head: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for value in head.state_dict().values():
        if value.is_floating_point() and value.ndim == 1:
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    return head.eval()


def unit(x: Tensor, block: nn.Module) -> Tensor:
    """Convolution, normalisation, activation."""
    conv, norm = block[0], block[1]
    x = F.conv2d(x, conv.weight, padding=conv.kernel_size[0] // 2)
    return F.relu(F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias))


def up(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


@torch.no_grad()
def test_the_head_is_pyramid_pooling_on_a_feature_pyramid() -> None:
    torch.manual_seed(0)
    head = randomised(UPerHead([4, 6, 8, 10], 3, channels=5))
    c2, c3, c4, c5 = (torch.randn(2, width, *size) for width, size in zip((4, 6, 8, 10), SIZES, strict=True))
    pooled = [up(unit(F.adaptive_avg_pool2d(c5, n), head.ppm.stages[i]), c5) for i, n in enumerate((1, 2, 3, 6))]
    p5 = unit(torch.cat([c5, *pooled], dim=1), head.top)
    m4 = unit(c4, head.lateral[2]) + up(p5, c4)
    m3 = unit(c3, head.lateral[1]) + up(m4, c3)
    m2 = unit(c2, head.lateral[0]) + up(m3, c2)
    levels = [unit(m2, head.smooth[0]), unit(m3, head.smooth[1]), unit(m4, head.smooth[2]), p5]
    fused = unit(torch.cat([up(level, c2) for level in levels], dim=1), head.fusion)
    expected = F.conv2d(fused, head.classifier.weight, head.classifier.bias)
    torch.testing.assert_close(head((c2, c3, c4, c5)), expected)


SIZES = ((17, 25), (9, 13), (5, 7), (3, 4))


def test_the_auxiliary_head_reads_the_third_stage_in_training_only() -> None:
    model = upernet(3, backbone="mobilenet_v3_small", channels=16)
    assert model.aux_head[0][0].in_channels == model.backbone.channels[-2]
    image = torch.randn(2, 3, 64, 96)
    assert {name: tuple(x.shape) for name, x in model.train()(image).items()} == {
        "out": (2, 3, 64, 96),
        "aux": (2, 3, 4, 6),
    }
    assert list(model.eval()(image)) == ["out"]
