"""The moving parts of a training, and what one step does with them."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segctl import registry
from segctl.config.load import dump
from segctl.config.schema import Config
from segctl.errors import ConfigError, NonFiniteLossError, listing
from segctl.plugin import DatasetInfo, SegmentationDataset, model_traits
from segctl.runs.run import Run
from segctl_jobs import checkpoint, watchdog
from segctl_jobs.build import amp_dtype, create_loss, create_model, memory_format
from segctl_jobs.class_pixels import count_class_pixels
from segctl_jobs.data import Batch
from segctl_jobs.distributed import World, distribute
from segctl_jobs.inference import normalize
from segctl_jobs.looks import Look, apply_looks
from segctl_jobs.optim import MovingAverage, create_optimizer, set_learning_rate
from segctl_jobs.timeline import Timeline, learning_rate_factor

Stop = Callable[[], "str | None"]


@dataclass
class Progress:
    """How far a training is; saved in every checkpoint.

    Attributes:
        losses: Of the steps since the last record in metrics.jsonl, whose mean the next one holds.
    """

    step: int = 0
    evaluated_step: int = 0
    miou: float | None = None
    best_miou: float | None = None
    best_step: int | None = None
    losses: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Engine:
    """The moving parts of a training on one process; `replica` is `model`, wrapped for several processes."""

    config: Config
    world: World
    timeline: Timeline
    model: nn.Module
    replica: nn.Module
    loss: Callable[..., Any]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: MovingAverage | None
    amp: torch.dtype | None

    @property
    def layout(self) -> torch.memory_format:
        """Of weights and images."""
        return memory_format(self.config.train.channels_last, self.amp, self.world.device)


@dataclass(frozen=True)
class StepResult:
    """Means over the samples of one step, of all processes; `stop` when any process was asked to."""

    loss: float
    grad_norm: float
    stop: bool


def assemble(
    run: Run, config: Config, world: World, dataset: SegmentationDataset, info: DatasetInfo, *, from_checkpoint: bool
) -> Engine:
    """Builds model, loss and optimizer on this process's device.

    Raises:
        ConfigError: The batch is smaller than the number of processes, or the arithmetic does not suit the device.
    """
    training = config.train
    if training.batch_size < world.size:
        raise ConfigError(
            f"train.batch_size: {training.batch_size} samples cannot be shared by {world.size} processes.",
            "Use a larger batch or fewer processes.",
        )
    _choose_algorithms(config)
    amp = amp_dtype(training.amp, world.device)
    torch.manual_seed(config.seed)
    if not world.is_main:
        world.barrier()  # rank 0 goes first: it alone downloads pretrained weights
    model = create_model(config.model, len(info.classes), from_checkpoint=from_checkpoint)
    if world.is_main:
        world.barrier()
    model.to(world.device, memory_format=memory_format(training.channels_last, amp, world.device))
    if training.compile:
        model.compile()
    replica = distribute(model, world, sync_bn=training.sync_bn)
    model = replica.module if world.size > 1 else replica
    kept = run.path / "class_pixels.json"
    loss = create_loss(config, info, lambda: count_class_pixels(dataset, info, world, config, kept))
    if isinstance(loss, nn.Module):
        loss.to(world.device)
    traits = model_traits(registry.find("models", config.model.name).load())
    return Engine(
        config=config,
        world=world,
        timeline=Timeline.of(training, len(dataset)),
        model=model,
        replica=replica.train(),
        loss=loss,
        optimizer=create_optimizer(model, config.optimizer, traits.backbone),
        scaler=torch.amp.GradScaler(world.device.type, enabled=amp == torch.float16),
        average=MovingAverage(model, training.ema) if training.ema is not None else None,
        amp=amp,
    )


def _choose_algorithms(config: Config) -> None:
    torch.backends.cudnn.benchmark = not config.train.deterministic
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    if config.train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
        torch.use_deterministic_algorithms(True, warn_only=True)


def snapshot(engine: Engine, info: DatasetInfo, progress: Progress) -> dict[str, Any]:
    """Everything that a training needs to go on and a prediction needs to be made. The random state is `seed` and
    `step`: see `seed_step`."""
    return {
        **asdict(progress),
        "seed": engine.config.seed,
        "model": engine.model.state_dict(),
        "ema": engine.average.model.state_dict() if engine.average else None,
        "optimizer": engine.optimizer.state_dict(),
        "scaler": engine.scaler.state_dict(),
        "config": dump(engine.config),
        "dataset_info": asdict(info),
    }


def restore(engine: Engine, run: Run, state: dict[str, Any]) -> Progress:
    """Puts a checkpoint's state into the engine.

    Raises:
        CheckpointError: It is another model's.
    """
    path = checkpoint.step_file(run.checkpoints, state["step"])
    checkpoint.fit(engine.model, state["model"], path)
    if engine.average is not None and state["ema"] is not None:
        checkpoint.fit(engine.average.model, state["ema"], path)
    engine.optimizer.load_state_dict(state["optimizer"])
    engine.scaler.load_state_dict(state["scaler"])
    if engine.world.is_main:
        checkpoint.relink_best(run.checkpoints, state)
    return Progress(**{name: state[name] for name in Progress.__dataclass_fields__ if name in state})


def train_step(engine: Engine, batch: Batch, step: int, stop: Stop) -> StepResult:
    """One optimizer step on this process's share of the batch, in `train.accumulate` parts.

    The gradient is the mean over all parts of all processes, each weighted by its number of samples. A loss that is
    itself a mean over something else, as cross entropy is over the pixels that are not ignored, is taken part by part,
    as everywhere in distributed training. No process changes its weights before all have found their loss and gradient
    finite.

    Raises:
        NonFiniteLossError: On every process alike.
    """
    config, world = engine.config, engine.world
    seed_step(config.seed, step, world.rank)
    set_learning_rate(engine.optimizer, learning_rate_factor(step, engine.timeline.total, config.schedule))
    engine.optimizer.zero_grad(set_to_none=True)
    count = len(batch.names)
    # The same number on every process, for each part has its collectives.
    parts = min(config.train.accumulate, config.train.batch_size // world.size)
    loss_sum = torch.zeros((), device=world.device)
    bounds = [count * part // parts for part in range(parts + 1)]
    for part, (first, last) in enumerate(itertools.pairwise(bounds)):
        watchdog.beat()  # on a CPU, a step of many parts takes its time
        together = part == parts - 1 or world.size == 1
        with contextlib.nullcontext() if together else engine.replica.no_sync():  # type: ignore[operator]
            looks = batch.looks[first:last] if batch.looks else ()
            loss = _loss(engine, batch.images[first:last], batch.masks[first:last], looks)
            weighted = loss * ((last - first) / config.train.batch_size)
            # DDP averages over the processes; the sum is wanted.
            engine.scaler.scale(weighted * world.size).backward()
        loss_sum += weighted.detach()
    engine.scaler.unscale_(engine.optimizer)
    gradients = [parameter.grad for parameter in engine.model.parameters() if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    own_loss, grad_norm = torch.stack([loss_sum, norm.to(loss_sum)]).tolist()
    # fp16 gradients may overflow: the scaler skips the step and halves its scale, but cannot do so for ever.
    skipped = engine.scaler.is_enabled() and not math.isfinite(grad_norm) and engine.scaler.get_scale() > 1
    finite = math.isfinite(own_loss) and (skipped or math.isfinite(grad_norm))
    wanted, wrong, loss_value = world.sum(
        torch.tensor([stop() is not None, not finite, own_loss], dtype=torch.float64)
    ).tolist()
    if wrong:
        _refuse_to_go_on(engine, batch, step, own_loss, grad_norm, finite)
    if config.train.clip_norm is not None:
        nn.utils.clip_grads_with_norm_(engine.model.parameters(), config.train.clip_norm, norm)
    engine.scaler.step(engine.optimizer)
    engine.scaler.update()
    if engine.average is not None:
        engine.average.update(engine.model, step)
    return StepResult(loss_value, grad_norm, wanted > 0)


def _loss(engine: Engine, images: Tensor, masks: Tensor, looks: Sequence[Look]) -> Tensor:
    device = engine.world.device
    images = images.to(device, non_blocking=True)
    if looks:
        apply_looks(images, looks)
    inputs = normalize(images, engine.config.input).contiguous(memory_format=engine.layout)
    target = masks.to(device, non_blocking=True).long()
    with torch.autocast(device.type, dtype=engine.amp, enabled=engine.amp is not None):
        terms = engine.loss(engine.replica(inputs), target)
    return sum(terms.values(), torch.zeros((), device=device)) if isinstance(terms, dict) else terms


def seed_step(seed: int, step: int, rank: int) -> None:
    """Makes dropout and the like functions of (seed, step, process), whichever generator a plugin draws from."""
    sequence = np.random.SeedSequence([seed, step, rank])
    number = int(sequence.generate_state(1, np.uint64)[0] >> 1)
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number % 2**32)


def _refuse_to_go_on(engine: Engine, batch: Batch, step: int, loss: float, grad_norm: float, finite: bool) -> None:
    own = None if finite else (loss, grad_norm, batch.names)
    reports = [report for report in engine.world.gather(own) if report is not None]
    # The gradients are averaged already, so that all processes see them spoilt; who has a bad loss has the bad samples.
    reports = [report for report in reports if not math.isfinite(report[0])] or reports
    loss, grad_norm, _ = reports[0]
    what = f"loss was {loss}" if not math.isfinite(loss) else f"norm of the gradient was {grad_norm}"
    names = [name for report in reports for name in report[2]]
    raise NonFiniteLossError(
        f"The {what} at step {step + 1}, on the samples {listing(names[:16])}{' and more' if len(names) > 16 else ''}.",
        "It would happen again at the same step. Train anew from RUN/config.yaml with a lower --lr, a longer warm-up "
        "(--set schedule.warmup_steps=500), clipping (--set train.clip_norm=1) or --set train.amp=off.",
    )
