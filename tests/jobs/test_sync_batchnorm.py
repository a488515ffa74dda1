"""Synchronised batch normalisation on CPUs equals plain batch normalisation of the joint batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from processes import in_processes
from torch import nn

from segctl_jobs.sync_batchnorm import SyncBatchNorm

SHARES = (3, 1, 2)  # samples on each process: unequal on purpose


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    # An offset much larger than the spread: a variance computed as E[x^2] - E[x]^2 would lose its digits here.
    images = (
        torch.randn(sum(SHARES), 4, 5, 7, generator=generator) * torch.tensor([1.0, 0.1, 3.0, 1.0]).view(1, 4, 1, 1)
        + 50
    )
    return images, torch.randn(sum(SHARES), 4, 5, 7, generator=generator)


def layer() -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(4, eps=1e-3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
        norm.bias.copy_(torch.tensor([0.0, 1.0, -1.0, 0.5]))
    return norm


def run_share(rank: int, size: int) -> dict[str, torch.Tensor]:
    images, weights = data()
    first = sum(SHARES[:rank])
    x = images[first : first + SHARES[rank]].contiguous(memory_format=torch.channels_last).requires_grad_()
    model = SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(layer())).train()
    y = model(x)
    (y * weights[first : first + SHARES[rank]]).sum().backward()
    norm = model[0]
    return {
        "y": y.detach(),
        "grad_x": x.grad,
        "grad_weight": norm.weight.grad,
        "grad_bias": norm.bias.grad,
        "mean": norm.running_mean,
        "var": norm.running_var,
        "steps": norm.num_batches_tracked,
    }


@pytest.mark.slow
def test_equals_batch_norm_of_the_joint_batch(tmp_path: Path) -> None:
    images, weights = data()
    x = images.double().requires_grad_()  # the yardstick in double precision
    norm = layer().double().train()
    y = norm(x)
    (y * weights.double()).sum().backward()

    parts = in_processes(run_share, len(SHARES), tmp_path)

    joined = {name: torch.cat([part[name] for part in parts]) for name in ("y", "grad_x")}
    torch.testing.assert_close(joined["y"].double(), y.detach(), atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(joined["grad_x"].double(), x.grad, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(
        sum(part["grad_weight"] for part in parts).double(), norm.weight.grad, atol=5e-3, rtol=1e-4
    )
    torch.testing.assert_close(sum(part["grad_bias"] for part in parts).double(), norm.bias.grad, atol=1e-3, rtol=1e-4)
    for part in parts:
        torch.testing.assert_close(part["mean"].double(), norm.running_mean, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(part["var"].double(), norm.running_var, atol=1e-4, rtol=1e-4)
        assert part["steps"] == 1


def test_conversion_keeps_names_and_reaches_every_layer() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()), nn.BatchNorm1d(4))
    names = list(model.state_dict())
    converted = SyncBatchNorm.convert_sync_batchnorm(model)
    assert list(converted.state_dict()) == names
    norms = [module for module in converted.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert [type(norm) for norm in norms] == [SyncBatchNorm, SyncBatchNorm]
