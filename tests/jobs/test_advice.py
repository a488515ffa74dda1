"""What the check before a training advises: that which helps, and nothing that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from installed import install
from torch import nn

from segctl import registry
from segctl.config.load import resolve
from segctl.config.schema import Config, Plugin
from segctl.errors import PluginError, WeightsError
from segctl.options import describe
from segctl_jobs import preflight

WITH_WEIGHTS = [
    entry.name
    for entry in registry.discover("models")
    if entry.distribution == "segctl" and any(each.name == "pretrained" for each in describe(entry.load()))
]


def training(model: str, loss: str | None = None, **options: Any) -> Config:
    """Of `model` with `options`, on images that are drawn."""
    flags = {f"model.{name}": value for name, value in options.items()} | ({"loss": loss} if loss else {})
    return resolve(None, {"model": model, "dataset": "shapes", "launch.gpus": 0, **flags})


def advice(config: Config) -> str:
    return "\n".join(preflight.check(config, processes=1, from_checkpoint=False))


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were asked for weights; there is no network."""
    asked: list[str] = []

    def fetch(url: str, *_: Any, **__: Any) -> None:
        asked.append(url)
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    return asked


@pytest.mark.parametrize(
    ("model", "options", "advised"),
    [
        ("lraspp", {"backbone": "mobilenet_v3_small"}, True),
        ("unet", {"width": 4}, False),
        ("unet", {"backbone": "resnet18"}, True),
        ("unet", {"backbone": "resnet18", "stem": "v1s"}, False),
        ("icnet", {"stem": "7x7"}, False),
    ],
)
def test_imagenets_weights_are_advised_where_there_are_any(model: str, options: dict[str, str], advised: bool) -> None:
    said = advice(training(model, **options))

    assert "--model.weights FILE" in said
    assert ("--model.pretrained true" in said) is advised


@pytest.mark.parametrize("model", WITH_WEIGHTS)
def test_a_model_says_whether_it_has_imagenets_weights(model: str, fetched: list[str]) -> None:
    """The advice rests on it: the address that a model has is the one that it asks, and without one it refuses."""
    plugin = resolve(None, {"model": model, "dataset": "shapes"}).model
    with torch.device("meta"):
        made = registry.create_model(plugin, 3)
        address = getattr(getattr(made, "backbone", made), "imagenet", None)
        with pytest.raises(WeightsError):
            registry.create_model(Plugin(name=model, options={**plugin.options, "pretrained": True}), 3)

    assert fetched == [address] * (address is not None)


# ---- parameters without a gradient


class Idle(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.used, self.idle = nn.Conv2d(3, num_classes, 1), nn.Conv2d(3, num_classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.used(image)


def idle(num_classes: int) -> nn.Module:
    return Idle(num_classes)


def test_a_model_whose_outputs_want_another_loss_is_not_to_be_mended() -> None:
    config = training("encnet", loss="dice", backbone="resnet18")

    with pytest.raises(PluginError) as refused:
        preflight.check(config, processes=2, from_checkpoint=False)
    alone = advice(config)

    assert "never get a gradient (presence.weight, presence.bias)" in refused.value.message
    assert refused.value.hint == (
        "Its outputs are for the loss encnet: name that, alone or in `sum`. Or train on one process."
    )
    assert "on one process only. Its outputs are for the loss encnet: name that, alone or in `sum`." in alone


def test_that_loss_in_a_sum_is_enough() -> None:
    config = training("encnet", loss="sum", backbone="resnet18")
    config.loss.options["losses"] = [{"name": "encnet"}, {"name": "dice"}]

    assert "gradient" not in "\n".join(preflight.check(config, processes=2, from_checkpoint=False))


def test_a_model_with_parameters_that_no_loss_reaches_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(install(tmp_path / "site", "acme", models={"idle": f"{__name__}:idle"}))

    with pytest.raises(PluginError) as refused:
        preflight.check(training("idle", loss="dice"), processes=2, from_checkpoint=False)

    assert refused.value.hint == "Train on one process, or mend the model."
