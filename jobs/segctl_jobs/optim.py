"""Optimizers, their parameter groups, and the moving average of the weights."""

from __future__ import annotations

import copy

import torch
from torch import nn

from segctl.config.schema import Optimizer


def parameter_groups(model: nn.Module, settings: Optimizer, backbone: tuple[str, ...]) -> list[dict[str, object]]:
    """Backbone and head, each with and without weight decay; every group's peak learning rate stands in ``peak_lr``.

    Vectors and scalars (biases, the scales of normalisation layers, PReLU slopes) are not decayed unless
    `settings.decay_norm_and_bias`: see He et al. 2019, "Bag of Tricks", section 3.1, and He et al. 2015 for PReLU.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decayed = parameter.ndim > 1 or settings.decay_norm_and_bias
            groups.setdefault((name.startswith(backbone), decayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "peak_lr": settings.lr * (1.0 if in_backbone else settings.head_lr_factor),
            "weight_decay": settings.weight_decay if decayed else 0.0,
        }
        for (in_backbone, decayed), parameters in sorted(groups.items(), key=lambda item: item[0], reverse=True)
    ]


def create_optimizer(model: nn.Module, settings: Optimizer, backbone: tuple[str, ...]) -> torch.optim.Optimizer:
    groups = parameter_groups(model, settings, backbone)
    if settings.name == "adam":
        return torch.optim.Adam(groups, lr=settings.lr, betas=settings.betas, fused=True)
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=True)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


class MovingAverage:
    """An exponential moving average of a model's weights and statistics, kept as a second model.

    The decay grows from 2/11 to `decay` as min(decay, (1 + step) / (10 + step)), so that the first steps are soon
    forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        averaged, current = self.model.state_dict(), model.state_dict()
        floating = [name for name, value in averaged.items() if value.is_floating_point()]
        torch._foreach_lerp_([averaged[name] for name in floating], [current[name] for name in floating], 1 - decay)
        for name in averaged.keys() - set(floating):
            averaged[name].copy_(current[name])
