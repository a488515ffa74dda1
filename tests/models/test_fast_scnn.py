"""Fast-SCNN against Tables 1 to 3 of the paper."""

from __future__ import annotations

import pytest
import torch
from meta_models import count, on_meta
from torch import nn

from segctl_models.fast_scnn import FeatureFusion, InvertedResidual, SeparableConv, fast_scnn


def test_convolutions_have_the_papers_million_parameters() -> None:
    """1.11 million at 19 classes; the normalisations' scales and shifts are not in that figure."""
    model = on_meta(fast_scnn, 19, aux=False)
    norms = sum(p.numel() for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())
    total = count(model)
    assert round((total - norms) / 1e6, 2) == 1.11
    assert total == 1_137_795


def test_layers_have_the_sizes_of_table_1() -> None:
    shapes: list[tuple[int, ...]] = []
    with torch.device("meta"):
        model = fast_scnn(19).eval()
        layers = [*model.learning_to_downsample, *model.global_feature_extractor, model.fusion, *model.classifier]
        for layer in layers:
            layer.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
        model(torch.empty(1, 3, 1024, 2048))
    assert shapes == [
        (32, 512, 1024),
        (48, 256, 512),
        (64, 128, 256),
        *[(64, 64, 128)] * 3,
        *[(96, 32, 64)] * 3,
        *[(128, 32, 64)] * 3,
        (256, 32, 64),  # the pyramid before its projection
        (128, 32, 64),
        *[(128, 128, 256)] * 4,  # fusion, two separable convolutions, dropout
        (19, 128, 256),
    ]


def test_no_nonlinearity_between_depthwise_and_pointwise_convolution() -> None:
    kinds = [type(m) for m in SeparableConv(4, 6).modules() if not list(m.children())]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.Conv2d, nn.BatchNorm2d, nn.ReLU]


@pytest.mark.parametrize(("outputs", "stride", "added"), [(8, 1, True), (8, 2, False), (12, 1, False)])
def test_bottlenecks_are_added_to_their_input_where_the_shapes_are_equal(
    outputs: int, stride: int, added: bool
) -> None:
    layer = InvertedResidual(8, outputs, stride).eval()
    nn.init.zeros_(layer.branch[-1][0].weight)  # the branch gives 0
    x = torch.randn(2, 8, 6, 10)
    expected = x if added else torch.zeros(2, outputs, 6 // stride, 10 // stride)
    assert torch.equal(layer(x), expected)


def test_enlarged_context_is_smoothed_at_the_factor_it_was_enlarged_by() -> None:
    depthwise = FeatureFusion().context[0][0]
    assert (depthwise.dilation, depthwise.groups) == ((4, 4), 128)


def test_both_branches_are_supervised_in_training_only() -> None:
    with torch.device("meta"):
        model, image = fast_scnn(5), torch.empty(2, 3, 64, 96)
        outputs, evaluated = model.train()(image), model.eval()(image)
    shapes = {name: tuple(logits.shape) for name, logits in outputs.items()}
    assert shapes == {"out": (2, 5, 64, 96), "aux_details": (2, 5, 8, 12), "aux_context": (2, 5, 2, 3)}
    assert list(evaluated) == ["out"]
