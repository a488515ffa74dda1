"""BiSeNet against its paper and the first version of https://github.com/CoinCheung/BiSeNet, which was counted."""

from __future__ import annotations

import pytest
import torch
from meta_models import count, on_meta
from torch import nn

from segctl.plugin import model_traits
from segctl_models.bisenet import AttentionRefinement, FeatureFusion, bisenet


@pytest.mark.parametrize(
    ("num_classes", "aux", "expected"),
    [(21, False, 13_242_752), (21, True, 13_393_152), (19, False, 13_242_240)],
)
def test_same_number_of_parameters_as_the_release(num_classes: int, aux: bool, expected: int) -> None:
    assert count(on_meta(bisenet, num_classes, aux=aux)) == expected


def test_auxiliary_losses_weigh_as_much_as_the_principal_one() -> None:
    traits = model_traits(bisenet)
    assert (traits.loss, dict(traits.loss_options)) == ("cross_entropy", {"aux_weight": 1.0})


@pytest.mark.parametrize("module", [AttentionRefinement(8, 4), FeatureFusion(8, 4)])
def test_no_relu_stands_before_a_sigmoid(module: nn.Module) -> None:
    layers = [m for m in module.attention.modules() if not list(m.children())]
    before = layers[[type(m) for m in layers].index(nn.Sigmoid) - 1]
    assert isinstance(before, (nn.BatchNorm2d, nn.Conv2d))


def test_refinement_weighs_channels_by_a_sigmoid_of_their_average() -> None:
    """With known weights: the average of channel c is normalised to a_c, and its weight is 1 / (1 + exp(-a_c))."""
    module = AttentionRefinement(3, 2).eval()
    conv, norm = module.attention[1][0], module.attention[1][1]
    nn.init.eye_(conv.weight.data[:, :, 0, 0])
    norm.running_mean.copy_(torch.tensor([0.5, 2.0]))
    norm.running_var.copy_(torch.tensor([4.0, 0.25]))
    x = torch.randn(1, 3, 5, 7)
    with torch.no_grad():
        features = module.conv(x)
        average = features.mean(dim=(2, 3))[0]
        weights = 1 / (1 + torch.exp(-torch.stack([(average[0] - 0.5) / 2, (average[1] - 2) / 0.5])))
        refined = module(x)
    assert weights[1] < 0.5  # what a ReLU before the sigmoid would make impossible
    torch.testing.assert_close(refined, features * weights[:, None, None], rtol=1e-4, atol=1e-5)


def test_fusion_adds_weighted_features_to_themselves() -> None:
    module = FeatureFusion(8, 4).eval()
    reduce, expand = (m for m in module.attention if isinstance(m, nn.Conv2d))
    spatial, context = torch.randn(2, 4, 5, 7), torch.randn(2, 4, 5, 7)
    with torch.no_grad():
        features = module.conv(torch.cat([spatial, context], dim=1))
        hidden = (features.mean(dim=(2, 3)) @ reduce.weight[:, :, 0, 0].T).clamp(min=0)
        weights = torch.sigmoid(hidden @ expand.weight[:, :, 0, 0].T)
        torch.testing.assert_close(module(spatial, context), features * (1 + weights[:, :, None, None]))


def test_auxiliary_logits_come_from_the_context_path_at_two_depths() -> None:
    with torch.device("meta"):
        outputs = bisenet(5).train()(torch.empty(2, 3, 96, 160))
    shapes = {name: tuple(logits.shape) for name, logits in outputs.items()}
    assert shapes == {"out": (2, 5, 96, 160), "aux8": (2, 5, 12, 20), "aux16": (2, 5, 6, 10)}


@pytest.mark.parametrize("backbone", ["resnet34", "resnet50", "vgg16_bn"])
def test_other_backbones_fit_also_where_they_round_sizes_down(backbone: str) -> None:
    with torch.device("meta"):
        outputs = bisenet(5, backbone=backbone).train()(torch.empty(2, 3, 77, 95))
    assert outputs["out"].shape == (2, 5, 77, 95)
    assert outputs["aux8"].shape == (2, 5, 10, 12)
