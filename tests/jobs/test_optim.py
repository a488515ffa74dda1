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


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_the_factor_scales_each_groups_peak(name: str) -> None:
    optimizer = create_optimizer(Small(), Optimizer(name=name, lr=0.2, head_lr_factor=5), ("backbone.",))
    set_learning_rate(optimizer, 0.5)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == pytest.approx([0.1, 0.5])


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        # The gradient 1, and with 0.5 times the weight 2: the moments 0.2 and 0.04 are 2 and 4 without their bias, so
        # the first step is the learning rate. Then the gradient is 0 + 0.5 * 1.9: the moments are 0.275 and 0.048625,
        # without their bias 0.275 / 0.19 and 0.048625 / 0.0199.
        ("adam", 1.9, 1.9 - 0.1 * (0.275 / 0.19) / (0.048625 / 0.0199) ** 0.5),
        # The weight first shrinks by 0.1 * 0.5 of itself; the gradient is 1, then 0, and its moments 0.1 and 0.01, then
        # 0.09 and 0.0099.
        ("adamw", 1.8, 1.8 * 0.95 - 0.1 * (0.09 / 0.19) / (0.0099 / 0.0199) ** 0.5),
    ],
)
def test_two_steps_of_adam(name: str, first: float, second: float) -> None:
    """They differ in the weight decay: part of the gradient and its moments, or of the step alone."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 2.0)
    settings = Optimizer(name=name, lr=0.1, weight_decay=0.5, betas=(0.9, 0.99))
    optimizer = create_optimizer(layer, settings, ())
    set_learning_rate(optimizer, 1.0)

    layer.weight.grad = torch.ones(1, 1)
    optimizer.step()
    assert layer.weight.item() == pytest.approx(first)

    layer.weight.grad = torch.zeros(1, 1)
    optimizer.step()
    assert layer.weight.item() == pytest.approx(second)


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
