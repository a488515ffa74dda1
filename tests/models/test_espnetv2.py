"""ESPNetv2: its sizes, its unit and its pyramid worked out on their own, and the authors' checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from meta_models import count, on_meta
from torch import nn

from segctl.errors import ConfigError, WeightsError
from segctl.plugin import model_traits
from segctl_models.espnetv2 import EESP, PyramidPooling, espnetv2

# Of the release, counted; and of the three activations that it makes but never applies.
PUBLISHED = [(0.5, 99_618, 99_222, 112), (1.0, 341_094, 340_474, 224), (1.5, 725_574, 724_762, 352)]
PUBLISHED += [(2.0, 1_253_542, 1_252_538, 480)]


@pytest.mark.parametrize(("scale", "with_21", "with_19", "unused"), PUBLISHED)
def test_same_number_of_parameters_as_the_release(scale: float, with_21: int, with_19: int, unused: int) -> None:
    with torch.device("meta"):
        models = [espnetv2(classes, scale=scale) for classes in (21, 19)]

    counts = [count(model) for model in models]
    assert counts == [with_21 - unused, with_19 - unused]
    assert counts[0] == pytest.approx(with_21, rel=0.002)


def test_dilations_follow_from_how_far_a_level_may_see() -> None:
    """Table 1's network: at most 13, 11, 9 and 7 pixels; what would see more sees 3."""
    model = on_meta(espnetv2, 5)

    units = {name: unit for name, unit in model.named_modules() if isinstance(unit, EESP)}
    found = {name: [branch.dilation[0] for branch in unit.branches] for name, unit in units.items()}
    full, narrow = [1, 2, 3, 4], [1, 1, 2, 3]
    assert found == {
        "backbone.level2.unit": full,
        "backbone.down3.unit": full,
        **{f"backbone.level3.{index}": full for index in range(3)},
        "backbone.down4.unit": full,
        **{f"backbone.level4.{index}": narrow for index in range(7)},
        "context.0": narrow,
    }


@pytest.mark.parametrize("down", [False, True])
def test_a_unit_sums_its_dilated_branches_up(down: bool) -> None:
    torch.manual_seed(0)
    unit, x = EESP(16, 16, largest=7, down=down).eval(), torch.randn(1, 16, 11, 13)
    scale, slope = (1 + 1e-5) ** -0.5, 0.25  # of fresh normalisations and activations

    with torch.no_grad():
        reduced = F.leaky_relu(F.conv2d(x, unit.reduce[0].weight, groups=4) * scale, slope)
        total, merged = torch.zeros(()), []
        for branch, dilation in zip(unit.branches, (1, 1, 2, 3), strict=True):
            options = {"padding": dilation, "dilation": dilation, "stride": 2 if down else 1, "groups": 4}
            total = total + F.conv2d(reduced, branch.weight, **options)
            merged.append(total)
        merged = F.leaky_relu(torch.cat(merged, 1) * scale, slope)
        expected = F.conv2d(merged, unit.expand[0].weight, groups=4) * scale
        if not down:
            expected = F.leaky_relu(expected + x, slope)

        torch.testing.assert_close(unit(x), expected)


@pytest.mark.parametrize("size", [(9, 13), (4, 4), (32, 64), (17, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_pyramid_is_that_of_averages_enlarged_with_aligned_corners(
    size: tuple[int, int], dtype: torch.dtype
) -> None:
    """It keeps a margin around its levels, which must not show."""
    torch.manual_seed(0)
    pyramid, x = PyramidPooling(8).eval().to(dtype), torch.randn(2, 8, *size, dtype=dtype)

    with torch.no_grad():
        levels, smaller = [x], x
        for stage in pyramid.stages:
            smaller = F.avg_pool2d(smaller, 3, stride=2, padding=1)
            levels.append(F.interpolate(stage(smaller), size, mode="bilinear", align_corners=True))
        expected = pyramid.project(torch.cat(levels, 1))

        torch.testing.assert_close(pyramid(x), expected)


def test_the_pyramid_tells_neighbouring_pixels_apart_in_half_precision() -> None:
    """In bfloat16 there are no 300 different positions between -1 and 1."""
    pyramid, x = PyramidPooling(4).eval(), torch.linspace(-1, 1, 300).expand(1, 4, 8, 300).contiguous()

    with torch.no_grad():
        exact = pyramid(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = pyramid(x)

    torch.testing.assert_close(found.float(), exact, atol=0.02, rtol=0)


def test_checkpoints_of_the_release_can_be_given_as_weights(tmp_path: Path) -> None:
    """They hold the same layers in the same order under other names, and the activations that are never applied."""
    torch.manual_seed(0)
    model = espnetv2(4, scale=0.5).eval()
    published: dict[str, torch.Tensor] = {}
    for index, (name, value) in enumerate(model.state_dict().items()):
        if not name.endswith("num_batches_tracked"):  # files of that time have no such counters
            published[f"module.net.{index}"] = value
        if name.endswith("unit.norm_act.1.weight"):
            published[f"module.net.{index}.eesp.module_act.weight"] = torch.zeros(32)
    torch.save(published, tmp_path / "espnetv2.pth")

    loaded = espnetv2(4, scale=0.5, weights=str(tmp_path / "espnetv2.pth")).eval()

    image = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        assert torch.equal(loaded(image)["out"], model(image)["out"])
    with pytest.raises(WeightsError, match="do not fit the model"):
        espnetv2(4, scale=1.0, weights=str(tmp_path / "espnetv2.pth"))


def test_auxiliary_logits_are_those_of_level_3_and_weigh_as_much() -> None:
    model = espnetv2(5)
    outputs = model(torch.randn(2, 3, 33, 50))

    assert {name: tuple(value.shape) for name, value in outputs.items()} == {"out": (2, 5, 33, 50), "aux": (2, 5, 5, 7)}
    assert list(espnetv2(5, aux=False)(torch.randn(2, 3, 33, 50))) == ["out"]
    assert dict(model_traits(espnetv2).loss_options) == {"aux_weight": 1.0}


def test_dropout_is_weaker_in_the_smallest() -> None:
    with torch.device("meta"):
        rates = [{m.p for m in espnetv2(2, scale=s).modules() if isinstance(m, nn.Dropout2d)} for s in (0.5, 1.0)]

    assert rates == [{0.1}, {0.2}]


def test_other_scales_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.scale: 0\.75 is not one of 0\.5, 1, 1\.25, 1\.5, 2\."):
        espnetv2(2, scale=0.75)
