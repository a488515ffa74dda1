"""What the check before a training advises: that which helps, and nothing that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from segctl import registry
from segctl.config.load import resolve
from segctl.config.schema import Config, Plugin
from segctl.errors import WeightsError
from segctl.options import describe
from segctl_jobs import preflight

WITH_WEIGHTS = [
    entry.name
    for entry in registry.discover("models")
    if entry.distribution == "segctl" and any(each.name == "pretrained" for each in describe(entry.load()))
]


def training(model: str, **options: Any) -> Config:
    """Of `model` with `options`, on images that are drawn."""
    flags = {f"model.{name}": value for name, value in options.items()}
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
