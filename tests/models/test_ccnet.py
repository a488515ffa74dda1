"""CCNet against the authors' release, and criss-cross attention against one computed position by position."""

from __future__ import annotations

import pytest
import torch
from meta_models import count, on_meta
from torch import Tensor, nn

from segctl.errors import ConfigError
from segctl_models.ccnet import CrissCrossAttention, RCCAHead, ccnet, criss_cross


def naive(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The positions of the row and the column, each once, in loops."""
    result = torch.zeros_like(value)
    batch, _, height, width = query.shape
    for n in range(batch):
        for y in range(height):
            for x in range(width):
                path = {(y, j) for j in range(width)} | {(i, x) for i in range(height)}
                assert len(path) == height + width - 1
                weights = {p: torch.exp(query[n, :, y, x] @ key[(n, slice(None), *p)]) for p in path}
                total = sum(weights.values())
                result[n, :, y, x] = sum(weights[p] / total * value[(n, slice(None), *p)] for p in path)
    return result


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"aux": False}, 47_566_934),
        ({}, 52_297_835),
        ({"backbone": "resnet101", "aux": False}, 66_559_062),
        ({"backbone": "resnet101"}, 71_289_963),
    ],
)
def test_same_number_of_parameters_as_the_release(options: dict[str, object], expected: int) -> None:
    assert count(on_meta(ccnet, 21, **options)) == expected


@pytest.mark.parametrize("size", [(4, 5), (5, 3), (1, 4), (4, 1), (1, 1)])
def test_it_is_the_attention_of_the_loop(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 2, 3, *size, dtype=torch.float64)
    value = torch.randn(2, 6, *size, dtype=torch.float64)
    torch.testing.assert_close(criss_cross(query, key, value), naive(query, key, value))


def test_its_gradients_are_those_of_the_loop() -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(1, c, 3, 4, dtype=torch.float64, requires_grad=True) for c in (2, 2, 5)]
    weight = torch.randn(1, 5, 3, 4, dtype=torch.float64)
    ours = torch.autograd.grad((criss_cross(*inputs) * weight).sum(), inputs)
    theirs = torch.autograd.grad((naive(*inputs) * weight).sum(), inputs)
    torch.testing.assert_close(ours, theirs)


def test_the_own_position_counts_once() -> None:
    """Without any preference the weights are 1 / (3 + 5 - 1)."""
    query = torch.zeros(1, 2, 3, 5)
    value = torch.zeros(1, 1, 3, 5)
    value[0, 0, 1, 2] = 7.0
    cross = [[0, 0, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0]]
    torch.testing.assert_close(criss_cross(query, query, value)[0, 0], torch.tensor(cross, dtype=torch.float32))


@pytest.mark.parametrize(("recurrence", "reached"), [(1, 3 + 5 - 1), (2, 15)])
def test_applied_twice_it_reaches_every_position(recurrence: int, reached: int) -> None:
    torch.manual_seed(0)
    attention = CrissCrossAttention(8)
    nn.init.ones_(attention.gamma)
    x = torch.randn(1, 8, 3, 5, requires_grad=True)
    y = x
    for _ in range(recurrence):
        y = attention(y)
    y[0, :, 1, 2].sum().backward()
    assert (x.grad.abs().sum(dim=1) > 0).sum().item() == reached


def test_the_head_applies_the_same_attention_twice_by_default() -> None:
    head = on_meta(ccnet, 21).classifier
    calls = []
    head.attention.register_forward_hook(lambda *_: calls.append(1))
    with torch.device("meta"):
        head.eval()(torch.empty(1, 2048, 4, 5))
    assert len(calls) == head.recurrence == 2


def test_the_attention_starts_as_the_identity() -> None:
    x = torch.randn(2, 8, 3, 4)
    assert torch.equal(CrissCrossAttention(8)(x), x)


def test_the_heads_have_leaky_activations_and_drop_whole_feature_maps() -> None:
    model = on_meta(ccnet, 21)
    for head in (model.classifier, model.aux_classifier):
        kinds = {type(module) for module in head.modules()}
        assert {nn.LeakyReLU, nn.Dropout2d} <= kinds
        assert not {nn.ReLU, nn.Dropout} & kinds


def test_a_head_without_recurrence_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.recurrence"):
        on_meta(ccnet, 21, recurrence=0)


def test_a_batch_of_one_image_trains() -> None:
    head = RCCAHead(32, 3, recurrence=2).train()
    head(torch.randn(1, 32, 4, 5)).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in head.parameters())
