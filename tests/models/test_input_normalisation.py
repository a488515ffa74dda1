"""The options that give a model the input of somebody else's release: against that release's arithmetic in numpy."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from segctl.config.schema import Input
from segctl.errors import ConfigError
from segctl_jobs.inference import normalize
from segctl_models.cgnet import cgnet
from segctl_models.espnet import espnet
from segctl_models.espnetv2 import espnetv2
from segctl_models.layers.input_normalisation import input_normalisation

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def as_segctl_gives_it() -> Tensor:
    """What a model gets of this image, with the settings that a configuration has by default."""
    return normalize(torch.from_numpy(RGB).permute(2, 0, 1)[None], Input())


def test_by_default_the_image_is_left_alone() -> None:
    image = as_segctl_gives_it()

    assert input_normalisation("rgb", None, None)(image) is image


def test_the_order_of_the_channels_alone() -> None:
    image = as_segctl_gives_it()

    assert torch.equal(input_normalisation("bgr", None, None)(image), image[:, [2, 1, 0]])


def test_espnets_release() -> None:
    """It reads BGR, takes mean and standard deviation, and divides by 255 once more."""
    mean, std = [72.3923111, 82.90893555, 73.15840149], [45.3192215, 46.15289307, 44.91483307]
    expected = (RGB[..., ::-1].astype(np.float64) - mean) / std / 255

    found = input_normalisation("bgr", tuple(mean), (11556.40148, 11768.98828, 11453.28244))(as_segctl_gives_it())

    np.testing.assert_allclose(found[0].permute(1, 2, 0), expected, atol=1e-7)


def test_cgnets_release() -> None:
    """It subtracts means, and divides by nothing."""
    mean = [72.39239876, 82.90891754, 73.15835921]

    found = input_normalisation("rgb", tuple(mean), (1.0, 1.0, 1.0))(as_segctl_gives_it())

    np.testing.assert_allclose(found[0].permute(1, 2, 0), RGB.astype(np.float64) - mean, atol=1e-4)


@pytest.mark.parametrize("factory", [cgnet, espnet, espnetv2])
def test_models_apply_it_first_and_keep_it_out_of_their_weights(factory: Any) -> None:
    torch.manual_seed(0)
    options = {"channel_order": "bgr", "mean": (72.0, 83.0, 73.0), "std": (45.0, 46.0, 44.0)}
    plain, other = factory(3).eval(), factory(3, **options).eval()
    assert list(other.state_dict()) == list(plain.state_dict())
    other.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 32, 40)
    before = image.clone()

    with torch.no_grad():
        expected = plain(input_normalisation(order="bgr", mean=options["mean"], std=options["std"])(image))
        assert torch.equal(other(image)["out"], expected["out"])
    assert torch.equal(image, before)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((1.0, 2.0, 3.0), None, r"model\.std is missing: mean and std belong together"),
        (None, (1.0, 2.0, 3.0), r"model\.mean is missing"),
        ((1.0, 2.0, 3.0), (1.0, 0.0, 3.0), r"model\.std: 0 is not a finite number above 0"),
        ((1.0, 2.0, 3.0), (1.0, -1.0, 3.0), r"model\.std: -1 is not a finite number above 0"),
        ((1.0, 2.0, 3.0), (1.0, inf, 3.0), r"model\.std: inf is not a finite number above 0"),
        ((1.0, nan, 3.0), (1.0, 1.0, 3.0), r"model\.mean: nan is not a finite number"),
    ],
)
def test_half_of_it_and_what_nothing_can_be_divided_by_is_refused(mean: Any, std: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        input_normalisation("rgb", mean, std)
