"""Parameter groups and the moving average of the weights, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segctl.config.schema import Optimizer
from segctl_jobs.optim import MovingAverage, create_optimizer, parameter_groups, set_learning_rate


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4))
        self.head = nn.Conv2d(4, 2, 1)


def groups_by_name(settings: Optimizer) -> dict[str, tuple[float, float]]:
    model = Small()
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[parameter]: (group["peak_lr"], group["weight_decay"])
        for group in parameter_groups(model, settings, ("backbone.",))
        for parameter in group["params"]
    }


def test_head_learns_faster_and_norms_biases_and_prelu_do_not_decay() -> None:
    assert groups_by_name(Optimizer(lr=0.1, weight_decay=0.5, head_lr_factor=10)) == {
        "backbone.0.weight": (0.1, 0.5),
        "backbone.0.bias": (0.1, 0.0),
        "backbone.1.weight": (0.1, 0.0),
        "backbone.1.bias": (0.1, 0.0),
        "backbone.2.weight": (0.1, 0.0),
        "head.weight": (1.0, 0.5),
        "head.bias": (1.0, 0.0),
    }


def test_decaying_everything_is_an_option() -> None:
    decays = {decay for _, decay in groups_by_name(Optimizer(weight_decay=0.5, decay_norm_and_bias=True)).values()}
    assert decays == {0.5}


def test_frozen_parameters_are_left_out() -> None:
    model = Small()
    model.backbone.requires_grad_(False)
    trained = [p for group in parameter_groups(model, Optimizer(), ("backbone.",)) for p in group["params"]]
    assert len(trained) == 2


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_factor_scales_each_groups_peak(name: str) -> None:
    optimizer = create_optimizer(Small(), Optimizer(name=name, lr=0.2, head_lr_factor=5), ("backbone.",))
    set_learning_rate(optimizer, 0.5)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == pytest.approx([0.1, 0.5])


def test_moving_average() -> None:
    model = nn.BatchNorm1d(1)
    average = MovingAverage(model, 0.5)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.running_mean.fill_(1.0)
    model.num_batches_tracked.fill_(7)
    average.update(model, step=0)  # decay min(0.5, 1/10): 0.1 of the old, 0.9 of the new
    assert average.model.weight.item() == pytest.approx(0.1 * 1 + 0.9 * 3)
    assert average.model.running_mean.item() == pytest.approx(0.9)
    assert average.model.num_batches_tracked.item() == 7
    average.update(model, step=1000)  # decay 0.5
    assert average.model.weight.item() == pytest.approx(0.5 * 2.8 + 0.5 * 3)
