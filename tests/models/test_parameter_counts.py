"""Parameters against the published architectures, as counted from the authors' or torchvision's releases."""

from __future__ import annotations

from typing import Any

import pytest
from meta_models import count, on_meta

from segctl_models.deeplabv3 import deeplabv3
from segctl_models.enet import enet
from segctl_models.fcn import fcn
from segctl_models.fcn_vgg import fcn8s, fcn16s, fcn32s
from segctl_models.lraspp import lraspp


@pytest.mark.parametrize(
    ("factory", "options", "expected"),
    [
        # VGG16's 13 convolutions, fc6, fc7 and the scores; the authors' fixed upsampling is not counted.
        (fcn32s, {}, 14_714_688 + 102_764_544 + 16_781_312 + 4097 * 21),
        (fcn16s, {}, 14_714_688 + 102_764_544 + 16_781_312 + 4097 * 21 + 513 * 21),
        (fcn8s, {}, 14_714_688 + 102_764_544 + 16_781_312 + 4097 * 21 + 513 * 21 + 257 * 21),
        (fcn, {"backbone": "resnet50", "aux": False}, 32_957_013),
        (fcn, {"backbone": "resnet50"}, 35_322_218),
        (fcn, {"backbone": "resnet101", "aux": False}, 51_949_141),
        (fcn, {"backbone": "resnet101"}, 54_314_346),
        (fcn, {"backbone": "resnet152", "aux": False}, 67_592_789),
        (deeplabv3, {"backbone": "resnet50", "aux": False}, 39_638_869),
        (deeplabv3, {"backbone": "resnet50"}, 42_004_074),
        (deeplabv3, {"backbone": "resnet101", "aux": False}, 58_630_997),
        (deeplabv3, {"backbone": "resnet101"}, 60_996_202),
        (deeplabv3, {"backbone": "resnet152", "aux": False}, 74_274_645),
        (deeplabv3, {"backbone": "mobilenet_v3_large"}, 11_029_328),
        (deeplabv3, {"backbone": "mobilenet_v3_large", "aux": False}, 11_025_477),
        (lraspp, {}, 3_221_538),
    ],
)
def test_same_number_of_parameters_as_the_release(factory: Any, options: dict[str, Any], expected: int) -> None:
    assert count(on_meta(factory, 21, **options)) == expected


@pytest.mark.parametrize(("num_classes", "expected"), [(21, 351_948), (19, 351_660)])
def test_enet_is_within_one_percent_of_the_trusted_release(num_classes: int, expected: int) -> None:
    """Not equal: that release shares one PReLU weight among all channels, and projects less in its decoder."""
    assert count(on_meta(enet, num_classes)) == pytest.approx(expected, rel=0.01)
