"""Shapes of published checkpoints, in their order, written down unit by unit; without BatchNorm's counters."""

from __future__ import annotations

from torch import nn

Shapes = list[tuple[int, ...]]


def of_model(model: nn.Module) -> Shapes:
    return [
        tuple(value.shape) for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")
    ]


def conv(inputs: int, outputs: int, kernel: int, groups: int = 1) -> Shapes:
    return [(outputs, inputs // groups, kernel, kernel)]


def norm(channels: int) -> Shapes:
    return [(channels,)] * 4


def norm_prelu(channels: int) -> Shapes:
    return [*norm(channels), (channels,)]


def conv_norm_prelu(inputs: int, outputs: int, kernel: int, groups: int = 1) -> Shapes:
    return [*conv(inputs, outputs, kernel, groups), *norm_prelu(outputs)]
