"""How much a model's auxiliary maps count follows from the model, also with another loss than its own."""

from __future__ import annotations

import pytest

from segctl.config.load import resolve


@pytest.mark.parametrize("model", ["bisenet", "bisenetv2", "danet", "espnetv2"])
@pytest.mark.parametrize("loss", ["cross_entropy", "ohem", "focal", "dice"])
def test_auxiliary_maps_count_as_in_the_release(model: str, loss: str) -> None:
    flags = {"model": model, "dataset": "shapes", "loss": loss}

    assert resolve(None, flags).loss.options["aux_weight"] == 1.0
    assert resolve(None, {**flags, "loss.aux_weight": 0.4}).loss.options["aux_weight"] == 0.4


def test_else_they_count_as_the_loss_has_it() -> None:
    assert resolve(None, {"model": "pspnet", "dataset": "shapes", "loss": "ohem"}).loss.options["aux_weight"] == 0.4
