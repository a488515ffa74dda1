"""LR-ASPP on the backbones that torchvision has no model for; the one it has is in ``test_torchvision_parity.py``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from meta_models import count, on_meta

from segctl_models.lraspp import lraspp


@pytest.mark.parametrize(
    ("backbone", "low", "high"),
    [("mobilenet_v3_small", 24, 576), ("mobilenet_v2", 32, 320)],
)
@torch.no_grad()
def test_it_reads_the_maps_of_stride_8_and_16(backbone: Any, low: int, high: int) -> None:
    model = lraspp(3, backbone=backbone).eval()
    seen: list[tuple[int, ...]] = []
    model.classifier.register_forward_hook(lambda _m, inputs, _o: seen.extend(tuple(x.shape) for x in inputs))
    assert model(torch.randn(1, 3, 64, 96))["out"].shape == (1, 3, 64, 96)
    assert seen == [(1, low, 8, 12), (1, high, 4, 6)]


def test_the_head_is_as_small_as_its_four_convolutions() -> None:
    """A 1x1 convolution and its normalisation, one for the attention, and the two that classify."""
    head = on_meta(lraspp, 19, backbone="mobilenet_v2", channels=64).classifier
    assert count(head) == (320 * 64 + 2 * 64) + 320 * 64 + (32 + 1) * 19 + (64 + 1) * 19
