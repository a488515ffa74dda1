"""DenseASPP against the authors' release: parameter counts, order of the layers, and ImageNet weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from meta_models import count, on_meta
from torch import nn
from torchvision.models import densenet121

from segctl_models.denseaspp import DensePyramid, denseaspp


@pytest.mark.parametrize(
    ("backbone", "at_21", "at_19"),
    [
        ("densenet121", 8_282_517, 8_280_851),
        ("densenet161", 35_398_917, 35_395_427),
        ("densenet169", 18_424_021, 18_420_675),
        ("densenet201", 28_644_309, 28_639_987),
    ],
)
def test_same_number_of_parameters_as_the_release(backbone: str, at_21: int, at_19: int) -> None:
    for num_classes, expected in ((21, at_21), (19, at_19)):
        assert count(on_meta(denseaspp, num_classes, backbone=backbone)) == expected


def test_each_layer_of_the_pyramid_sees_all_before_it() -> None:
    pyramid = DensePyramid(10, 6, 4).eval()
    x = torch.rand(1, 10, 9, 9)
    seen: list[torch.Tensor] = []
    for layer in pyramid.layers:
        layer.register_forward_hook(lambda _, inputs, output: seen.extend((inputs[0], output)))
    result = pyramid(x)
    assert [tensor.shape[1] for tensor in seen[::2]] == [10, 14, 18, 22, 26]
    assert result.shape[1] == pyramid.channels == 30
    torch.testing.assert_close(result, torch.cat([*seen[1::2][::-1], x], dim=1))


def test_layers_normalise_and_activate_before_they_convolve() -> None:
    pyramid = DensePyramid(10, 6, 4)
    kinds = [[type(module) for module in layer] for layer in pyramid.layers]
    half = [nn.BatchNorm2d, nn.ReLU, nn.Conv2d]
    # The first layer's input comes normalised and activated.
    assert kinds == [[nn.Conv2d, *half, nn.Dropout2d]] + [[*half, *half, nn.Dropout2d]] * 4
    rates = [[conv.dilation[0] for conv in layer if isinstance(conv, nn.Conv2d)] for layer in pyramid.layers]
    assert rates == [[1, 3], [1, 6], [1, 12], [1, 18], [1, 24]]


def test_all_imagenet_weights_of_torchvision_fit(tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = densenet121().state_dict()
    torch.save(state, tmp_path / "densenet121.pth")
    backbone = denseaspp(3, weights=str(tmp_path / "densenet121.pth")).backbone.state_dict()
    used = {name: value for name, value in state.items() if not name.startswith("classifier.")}
    assert backbone.keys() == used.keys()
    assert all(torch.equal(backbone[name], value) for name, value in used.items())


def test_the_pyramid_runs_at_stride_8_at_any_output_stride() -> None:
    sizes = []
    for output_stride in (8, 16):
        model = denseaspp(3, output_stride=output_stride).eval()  # type: ignore[arg-type]
        model.pyramid.register_forward_hook(lambda _, __, output: sizes.append(tuple(output.shape[-2:])))
        assert model(torch.rand(1, 3, 64, 96))["out"].shape == (1, 3, 64, 96)
    assert sizes == [(8, 12), (8, 12)]
