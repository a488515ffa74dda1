"""BiSeNetV2 against Table 1, Figures 5 and 6 of the paper."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from meta_models import count, on_meta
from torch import Tensor, nn

from segctl_models.bisenetv2 import ContextEmbedding, GuidedAggregation, bisenetv2


def conv(kernel: int, inputs: int, outputs: int) -> int:
    """Parameters of a convolution without bias and its normalisation."""
    return kernel * kernel * inputs * outputs + 2 * outputs


def depthwise(inputs: int, outputs: int) -> int:
    return 9 * outputs + 2 * outputs


def gather_expansion(channels: int) -> int:
    return conv(3, channels, channels) + depthwise(channels, 6 * channels) + conv(1, 6 * channels, channels)


def gather_expansion_down(inputs: int, outputs: int) -> int:
    branch = conv(3, inputs, inputs) + 2 * depthwise(6 * inputs, 6 * inputs) + conv(1, 6 * inputs, outputs)
    return branch + depthwise(inputs, inputs) + conv(1, inputs, outputs)


DETAIL = conv(3, 3, 64) + 4 * conv(3, 64, 64) + conv(3, 64, 128) + 2 * conv(3, 128, 128)
STEM = conv(3, 3, 16) + conv(1, 16, 8) + conv(3, 8, 16) + conv(3, 32, 16)
STAGES = (
    gather_expansion_down(16, 32)
    + gather_expansion(32)
    + gather_expansion_down(32, 64)
    + gather_expansion(64)
    + gather_expansion_down(64, 128)
    + 3 * gather_expansion(128)
)
CONTEXT = 2 * 128 + conv(1, 128, 128) + conv(3, 128, 128)
AGGREGATION = 3 * conv(3, 128, 128) + 2 * (depthwise(128, 128) + 128 * 128)


@pytest.mark.parametrize("num_classes", [19, 21])
def test_parameters_are_those_of_table_1(num_classes: int) -> None:
    head = conv(3, 128, 1024) + 1025 * num_classes
    boosters = sum(conv(3, width, 128) + 129 * num_classes for width in (16, 32, 64, 128))
    counts = [count(on_meta(bisenetv2, num_classes, aux=aux)) for aux in (False, True)]
    without = DETAIL + STEM + STAGES + CONTEXT + AGGREGATION + head
    assert counts == [without, without + boosters]


def test_boosters_are_on_the_stem_and_the_three_stages_in_training_only() -> None:
    with torch.device("meta"):
        model = bisenetv2(5)
        image = torch.empty(2, 3, 96, 160)
        outputs, evaluated = model.train()(image), model.eval()(image)
    assert {name: tuple(logits.shape[-2:]) for name, logits in outputs.items()} == {
        "out": (96, 160),
        "aux4": (24, 40),
        "aux8": (12, 20),
        "aux16": (6, 10),
        "aux32": (3, 5),
    }
    assert list(evaluated) == ["out"]


def randomised(module: nn.Module) -> nn.Module:
    """With statistics and scales of normalisation that are not those of the start, where they would do nothing."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.running_var, layer.weight.data):
                nn.init.uniform_(tensor, 0.5, 2)
            for tensor in (layer.running_mean, layer.bias.data):
                nn.init.normal_(tensor)
    return module.eval()


def normalised(x: Tensor, layer: nn.BatchNorm2d) -> Tensor:
    scale = layer.weight / torch.sqrt(layer.running_var + layer.eps)
    return x * scale[:, None, None] + (layer.bias - layer.running_mean * scale)[:, None, None]


@torch.no_grad()
def test_each_branch_gates_the_other_at_both_resolutions() -> None:
    """Figure 6, written out with functions."""
    layer = randomised(GuidedAggregation(4))
    detail, semantic = torch.randn(2, 4, 13, 18), torch.randn(2, 4, 4, 5)

    def separable(x: Tensor, module: nn.Module) -> Tensor:
        (first, norm), second = module
        return F.conv2d(normalised(F.conv2d(x, first.weight, padding=1, groups=4), norm), second.weight)

    def enlarged(x: Tensor) -> Tensor:
        return F.interpolate(x, (13, 18), mode="bilinear", align_corners=False)

    (down, down_norm), (up, up_norm) = layer.detail_down[0], layer.semantic_up
    gate = torch.sigmoid(enlarged(normalised(F.conv2d(semantic, up.weight, padding=1), up_norm)))
    fine = separable(detail, layer.detail_keep) * gate
    shrunk = F.avg_pool2d(normalised(F.conv2d(detail, down.weight, stride=2, padding=1), down_norm), 3, 2, 1)
    coarse = enlarged(shrunk * torch.sigmoid(separable(semantic, layer.semantic_keep)))
    last, last_norm, _ = layer.conv
    expected = normalised(F.conv2d(fine + coarse, last.weight, padding=1), last_norm).clamp(min=0)
    torch.testing.assert_close(layer(detail, semantic), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_context_embedding_adds_the_same_to_every_pixel() -> None:
    layer = randomised(ContextEmbedding(4))
    seen: list[Tensor] = []
    layer.conv.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x = torch.randn(2, 4, 5, 7)
    layer(x)
    projection, norm, _ = layer.project
    average = normalised(x.mean(dim=(2, 3), keepdim=True), layer.norm)
    added = normalised(F.conv2d(average, projection.weight), norm).clamp(min=0)
    torch.testing.assert_close(seen[0], x + added, rtol=1e-4, atol=1e-5)
