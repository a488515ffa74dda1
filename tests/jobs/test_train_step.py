"""One optimizer step: the same weights whether a batch is taken whole, in parts, or shared out unequally."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import in_processes
from torch import nn

from segctl.config.schema import Config, Schedule, Training
from segctl.errors import NonFiniteLossError
from segctl_jobs.data import Batch
from segctl_jobs.distributed import World, distribute
from segctl_jobs.engine import Engine, train_step
from segctl_jobs.looks import Look
from segctl_jobs.optim import MovingAverage, create_optimizer
from segctl_jobs.timeline import Timeline

CLASSES = 3


def engine(rank: int = 0, size: int = 1, *, lr: float = 0.5, norm: bool = False, **training: Any) -> Engine:
    torch.manual_seed(1)
    layers: list[nn.Module] = [nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, CLASSES, 1)]
    if norm:
        layers.insert(1, nn.BatchNorm2d(4))
    world = World(rank, size, rank, size, torch.device("cpu"))
    replica = distribute(nn.Sequential(*layers), world, sync_bn=True)
    model = replica.module if size > 1 else replica
    config = Config(
        model="toy",
        dataset="toy",
        train=Training(batch_size=5, steps=3, **training),
        schedule=Schedule(name="constant"),
        optimizer={"lr": lr},
    )
    return Engine(
        config=config,
        world=world,
        timeline=Timeline.of(config.train, length=5),
        model=model,
        replica=replica.train(),
        loss=nn.CrossEntropyLoss(),
        optimizer=create_optimizer(model, config.optimizer, ()),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        average=MovingAverage(model, config.train.ema) if config.train.ema else None,
        amp=None,
    )


def batch(first: int = 0, last: int = 5) -> Batch:
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (5, 3, 6, 7), dtype=torch.uint8, generator=generator)
    masks = torch.randint(0, CLASSES, (5, 6, 7), dtype=torch.uint8, generator=generator)
    return Batch(images[first:last], masks[first:last], tuple(f"picture{index}" for index in range(first, last)))


def trained(rank: int = 0, size: int = 1, norm: bool = False, accumulate: int = 1) -> dict[str, Any]:
    it = engine(rank, size, norm=norm, accumulate=accumulate, clip_norm=1.0)
    share = batch(5 * rank // size, 5 * (rank + 1) // size)
    losses = [train_step(it, share, step, lambda: None).loss for step in range(3)]
    return {"losses": losses, "weights": {name: value.clone() for name, value in it.model.state_dict().items()}}


@pytest.mark.parametrize("accumulate", [2, 3, 5, 9])
def test_accumulation_gives_the_gradient_of_the_whole_batch(accumulate: int) -> None:
    whole, parts = trained(), trained(accumulate=accumulate)
    assert parts["losses"] == pytest.approx(whole["losses"], rel=1e-5)
    torch.testing.assert_close(parts["weights"], whole["weights"])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_what_is_left_to_the_device_is_done_before_the_forward_pass(accumulate: int) -> None:
    looks = tuple(Look(0, 0, 6, 7, mirrored=number % 2 == 0) for number in range(5))
    left, done = replace(batch(), looks=looks), batch()
    done.images[::2] = done.images[::2].flip(3)
    losses = [train_step(engine(accumulate=accumulate), it, 0, lambda: None).loss for it in (left, done, batch())]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_unequal_shares_on_several_processes_train_like_one(size: int, tmp_path: Path) -> None:
    alone = trained(norm=True)
    for other in in_processes(trained, size, tmp_path, True):
        assert other["losses"] == pytest.approx(alone["losses"], rel=1e-4)
        torch.testing.assert_close(other["weights"], alone["weights"], atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_unequal_shares_in_parts_do_not_wait_for_each_other(tmp_path: Path) -> None:
    # 5 samples on 3 processes are shares of 1, 2 and 2: no process may take more parts than the smallest has samples.
    results = in_processes(trained, 3, tmp_path, True, 2)
    assert results[0]["losses"] == results[1]["losses"] == results[2]["losses"]


def test_the_loss_falls_and_the_average_follows() -> None:
    it = engine(ema=0.9)
    losses = [train_step(it, batch(), step, lambda: None).loss for step in range(20)]
    assert losses[-1] < losses[0] * 0.99
    assert it.average is not None
    distance = [(a - b).abs().max() for a, b in zip(it.average.model.parameters(), it.model.parameters(), strict=True)]
    assert 0 < max(distance).item() < 1


def test_a_signal_is_seen_after_the_step_is_done() -> None:
    it = engine()
    before = {name: value.clone() for name, value in it.model.state_dict().items()}
    assert train_step(it, batch(), 0, lambda: "SIGTERM").stop
    assert any(not torch.equal(before[name], value) for name, value in it.model.state_dict().items())


def poison(it: Engine) -> None:
    with torch.no_grad():
        it.model[0].weight[0, 0, 0, 0] = float("nan")


def test_a_nan_stops_before_the_weights_change_and_names_the_samples() -> None:
    it = engine()
    poison(it)
    before = it.model[2].weight.clone()
    with pytest.raises(
        NonFiniteLossError, match=r"The loss was nan at step 12, on the samples picture0, .* picture4"
    ) as caught:
        train_step(it, batch(), 11, lambda: None)
    assert "--lr" in caught.value.hint
    assert torch.equal(it.model[2].weight, before)


def nan_on_rank_1(rank: int, size: int) -> str:
    it = engine(rank, size)
    if rank == 1:
        poison(it)
    try:
        train_step(it, batch(5 * rank // size, 5 * (rank + 1) // size), 0, lambda: None)
    except NonFiniteLossError as error:
        return error.message
    return "went on"


@pytest.mark.slow
def test_every_process_stops_and_says_whose_samples_they_were(tmp_path: Path) -> None:
    # DDP has already averaged the gradients: those of rank 0 are spoilt too, though its samples are not to blame.
    messages = in_processes(nan_on_rank_1, 2, tmp_path)
    # Rank 1's are the last three of five.
    assert messages[0] == messages[1]
    assert messages[0].startswith("The loss was nan at step 1, on the samples picture2, picture3 and picture4")


def test_bf16_on_a_cpu_gives_the_gradients_of_full_precision() -> None:
    """Of dilated depthwise convolutions, too, which oneDNN gets wrong where pixels lie channels last (torch 2.15)."""
    images = torch.randint(0, 256, (2, 3, 47, 63), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    masks = torch.randint(0, CLASSES, (2, 47, 63), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    share = Batch(images.contiguous(memory_format=torch.channels_last), masks, ("one", "two"))

    def gradients(amp: torch.dtype | None) -> list[torch.Tensor]:
        moving = engine()
        torch.manual_seed(3)
        deep = nn.Conv2d(32, 32, 3, padding=2, dilation=2, groups=32)
        model = nn.Sequential(nn.Conv2d(3, 32, 1), deep, nn.Conv2d(32, CLASSES, 1))
        moving = replace(moving, model=model, replica=model, amp=amp)
        model.to(memory_format=moving.layout)
        moving = replace(moving, optimizer=create_optimizer(model, moving.config.optimizer, ()))
        train_step(moving, share, 1, lambda: None)
        return [value.grad.float() for value in model.parameters() if value.grad is not None]

    for exact, rough in zip(gradients(None), gradients(torch.bfloat16), strict=True):
        assert (exact - rough).norm() < 0.05 * exact.norm()
