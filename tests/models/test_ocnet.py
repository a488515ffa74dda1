"""OCNet's three variants against the authors' release, and its attention against one computed position by position."""

from __future__ import annotations

import pytest
import torch
from meta_models import count, on_meta
from torch import Tensor, nn

from segctl_models.layers.attention import attend, attend_within_regions
from segctl_models.ocnet import ASPOC, BaseOC, ObjectContext, PyramidOC, ocnet


def naive(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    n, _, height, width = value.shape
    weights = torch.einsum("nci,ncj->nij", query.flatten(2), key.flatten(2)).mul(scale).exp()
    weights = weights / weights.sum(dim=2, keepdim=True)
    return torch.einsum("nij,ncj->nci", weights, value.flatten(2)).reshape(n, -1, height, width)


def inputs(size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    query, key = torch.randn(2, 2, 3, *size, dtype=torch.float64)
    return query, key, torch.randn(2, 5, *size, dtype=torch.float64)


@pytest.mark.parametrize(
    ("context", "without_aux", "with_aux"),
    [
        ("base", 34_001_877, 38_732_778),
        ("pyramid", 38_863_317, 43_594_218),
        ("asp", 38_821_205, 43_552_106),
    ],
)
def test_same_number_of_parameters_as_the_release(context: str, without_aux: int, with_aux: int) -> None:
    for aux, expected in ((False, without_aux), (True, with_aux)):
        assert count(on_meta(ocnet, 21, context=context, aux=aux)) == expected


def test_attention_weights_by_softmax_of_scaled_products() -> None:
    query, key, value = inputs((3, 4))
    torch.testing.assert_close(attend(query, key, value, scale=0.3), naive(query, key, value, 0.3))


@pytest.mark.parametrize(
    ("size", "regions", "rows", "columns"),
    [
        ((4, 6), 2, [2, 2], [3, 3]),
        ((7, 8), 3, [3, 3, 1], [3, 3, 2]),
        ((4, 9), 6, [1, 1, 1, 1], [2, 2, 2, 2, 1]),  # with regions that are empty
    ],
)
def test_each_region_attends_to_itself(
    size: tuple[int, int], regions: int, rows: list[int], columns: list[int]
) -> None:
    query, key, value = inputs(size)
    strips = zip(*(x.split(rows, dim=2) for x in (query, key, value)), strict=True)
    expected = torch.cat(
        [
            torch.cat(
                [naive(*region, 0.3) for region in zip(*(x.split(columns, dim=3) for x in strip), strict=True)], dim=3
            )
            for strip in strips
        ],
        dim=2,
    )
    torch.testing.assert_close(attend_within_regions(query, key, value, regions, scale=0.3), expected)


def test_empty_regions_have_no_gradient_that_is_not_a_number() -> None:
    tensors = [x.requires_grad_() for x in inputs((4, 9))]
    attend_within_regions(*tensors, 6, scale=1.0).sum().backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in tensors)


def test_the_context_starts_as_zero() -> None:
    x = torch.randn(2, 8, 5, 4)
    assert not ObjectContext(8, 4, 4)(x).any()


@pytest.mark.parametrize("size", [(5, 6), (4, 4)])
def test_context_of_pooled_features_has_the_size_of_the_features(size: tuple[int, int]) -> None:
    assert ObjectContext(8, 4, 4, shrink=2)(torch.randn(2, 8, *size)).shape == (2, 8, *size)


def test_queries_and_keys_have_one_transformation() -> None:
    """So the weights are symmetric before the softmax: the largest is a position's own, if all are equally long."""
    context = ObjectContext(4, 4, 4).eval()
    nn.init.eye_(context.project.weight.flatten(1))
    nn.init.eye_(context.value.weight.flatten(1))
    nn.init.zeros_(context.value.bias)
    nn.init.eye_(context.key[0].weight.flatten(1))
    nn.init.zeros_(context.key[0].bias)
    context.scale = 100.0
    x = torch.eye(4)[None, :, None]  # four positions with features at right angles
    with torch.no_grad():
        torch.testing.assert_close(context(x), x)


def test_the_pyramid_divides_into_1_2_3_and_6_regions_per_side() -> None:
    pyramid = PyramidOC(8)
    assert [context.regions for context in pyramid.contexts] == [1, 2, 3, 6]
    assert pyramid.train()(torch.randn(1, 8, 5, 9)).shape == (1, 8, 5, 9)


@pytest.mark.parametrize(("output_stride", "rates"), [(8, [12, 24, 36]), (16, [6, 12, 18])])
def test_asp_oc_has_the_rates_of_the_output_stride(output_stride: int, rates: list[int]) -> None:
    module = ASPOC(8, output_stride=output_stride)
    assert [branch[0].dilation[0] for branch in module.branches[2:]] == rates
    assert module.train()(torch.randn(1, 8, 5, 9)).shape == (1, 8, 5, 9)


@pytest.mark.parametrize("context", ["base", "asp"])
def test_activations_are_leaky(context: str) -> None:
    model = on_meta(ocnet, 21, context=context)
    kinds = [type(m) for head in (model.classifier, model.aux_classifier) for m in head.modules()]
    assert nn.LeakyReLU in kinds
    assert not {nn.ReLU, nn.Dropout} & set(kinds)


def test_the_pyramid_starts_and_is_supervised_linearly_as_in_the_release() -> None:
    model = on_meta(ocnet, 21, context="pyramid")
    assert [type(m) for m in model.classifier[0]] == [nn.Conv2d, nn.BatchNorm2d]
    assert [type(m) for m in model.aux_classifier[0]] == [nn.Conv2d, nn.BatchNorm2d]


def test_all_parameters_of_base_oc_are_trained_by_one_image() -> None:
    module = BaseOC(8).train()
    module(torch.randn(1, 8, 4, 5)).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in module.parameters())
