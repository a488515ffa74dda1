"""Floating-point operations of a forward pass, counted without carrying them out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def forward_flops(create: Callable[[], nn.Module], size: tuple[int, int]) -> int:
    """Operations of one image through the model in evaluation.

    A multiply-add counts as two. Counted are convolutions, matrix products and attention, as
    `torch.utils.flop_counter` knows them; not normalisation, activations, pooling and resizing, which are few.

    Args:
        create: Makes the model; it is made on the meta device, so that neither memory nor time depend on the size.
        size: Height and width of the image.
    """
    with torch.device("meta"), torch.no_grad():
        model = create().eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, *size))
    return int(counter.get_total_flops())
