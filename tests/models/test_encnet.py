"""EncNet against the paper's equations and the release's parameter counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from meta_models import count, on_meta
from torch import Tensor, nn

from segctl_models.encnet import ContextEncoding, Encoding, encnet


@pytest.mark.parametrize(
    ("num_classes", "options", "expected"),
    [
        (21, {"aux": False}, 33_633_866),
        (21, {}, 35_999_071),
        (19, {"aux": False}, 33_631_814),
        (21, {"backbone": "resnet101", "aux": False}, 52_625_994),
        (21, {"backbone": "resnet152"}, 70_634_847),
    ],
)
def test_same_number_of_parameters_as_the_release(num_classes: int, options: dict[str, Any], expected: int) -> None:
    assert count(on_meta(encnet, num_classes, **options)) == expected


def test_the_head_is_the_release_s() -> None:
    """2048 to 512 channels, 32 codewords, attention, and two classifiers of 513 x 21."""
    model = on_meta(encnet, 21)
    heads = (model.conv5, model.context, model.classifier, model.presence)
    assert count(*heads) == 10_002_058


def encoded_by_the_equations(layer: Encoding, x: Tensor) -> Tensor:
    """Section 3.1: residuals r_ik = x_i - d_k, weighted by softmax over k of -s_k |r_ik|², summed over i."""
    vectors = x.flatten(2).transpose(1, 2)
    residuals = vectors[:, :, None, :] - layer.codewords
    weights = torch.softmax(layer.smoothing * residuals.square().sum(3), dim=2)
    return (weights[..., None] * residuals).sum(1)


def test_encoding_is_that_of_the_equations() -> None:
    torch.manual_seed(0)
    layer, x = Encoding(6, 4), torch.randn(2, 6, 5, 3)
    nn.init.normal_(layer.codewords)
    torch.testing.assert_close(layer(x), encoded_by_the_equations(layer, x))


def test_a_single_codeword_takes_every_residual() -> None:
    layer, x = Encoding(2, 1), torch.tensor([[[[1.0, 2.0]], [[3.0, 5.0]]]])
    layer.codewords.data = torch.tensor([[1.0, -1.0]])
    # (1, 3) + (2, 5) - 2 * (1, -1)
    torch.testing.assert_close(layer(x), torch.tensor([[[1.0, 10.0]]]))


def test_encoding_keeps_its_precision_under_autocast() -> None:
    torch.manual_seed(0)
    layer, x = Encoding(64, 8), 3 * torch.randn(1, 64, 40, 40)
    with torch.autocast("cpu", torch.bfloat16):
        encoding = layer(x)
    assert encoding.dtype == torch.float32
    torch.testing.assert_close(encoding, layer(x))


def test_attention_can_double_a_feature_map_but_not_remove_it() -> None:
    """y = relu(x + gamma x) with gamma between 0 and 1."""
    torch.manual_seed(0)
    module, x = ContextEncoding(8, 4).eval(), torch.rand(2, 8, 3, 3) + 0.1
    y, encoding = module(x)
    ratio = y / x
    assert encoding.shape == (2, 8)
    assert (ratio > 1).all()
    assert (ratio < 2).all()
    torch.testing.assert_close(ratio, ratio[:, :, :1, :1].expand_as(ratio))


def test_presence_is_told_in_training_only() -> None:
    model, image = encnet(5, backbone="resnet18"), torch.randn(2, 3, 64, 48)
    outputs = model(image)
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "out": (2, 5, 64, 48),
        "se": (2, 5),
        "aux": (2, 5, 8, 6),
    }
    assert list(model.eval()(image)) == ["out"]


def test_the_encoding_s_statistics_are_synchronised_too() -> None:
    with torch.device("meta"):
        model = nn.SyncBatchNorm.convert_sync_batchnorm(encnet(5, backbone="resnet18"))
    assert type(model.context.norm) is nn.SyncBatchNorm
