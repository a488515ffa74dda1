"""Floating-point operations of a forward pass, counted without carrying them out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode


@contextmanager
def shapes_only(create: Callable[[], nn.Module]) -> Iterator[nn.Module]:
    """A model, and inside of the context all tensors that are made, with shapes but without numbers.

    It is made on the meta device, because what draws initial weights may look at them. From then on it is as if on a
    CPU, because autocast does not know the meta device.
    """
    with torch.device("meta"):
        model = create()
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield model.to_empty(device="cpu")


def forward_flops(model: nn.Module, size: tuple[int, int]) -> int:
    """Operations of one image through a model of `shapes_only` in evaluation.

    A multiply-add counts as two. Counted are convolutions, matrix products and attention, as
    `torch.utils.flop_counter` knows them; not normalisation, activations, pooling and resizing, which are few.

    Args:
        model: Neither memory nor time depend on how large it or the image are.
        size: Height and width of the image.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.empty(1, 3, *size))
    return int(counter.get_total_flops())
