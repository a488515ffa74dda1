"""Training: a function of (configuration, step).

Every step seeds its own randomness and takes its own samples, the learning rate follows from the step's number, and a
checkpoint holds all the rest. A run that was cut off therefore goes on as if nothing had happened.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from segctl.config.schema import Config
from segctl.plugin import DatasetInfo, SegmentationDataset
from segctl.runs.run import Run
from segctl_jobs import checkpoint
from segctl_jobs.build import open_split
from segctl_jobs.counting import count
from segctl_jobs.data import Batch, StepSampler, TrainingSamples, default_workers, training_batches
from segctl_jobs.distributed import World
from segctl_jobs.drill.orders import orders
from segctl_jobs.engine import Engine, Progress, Stop, assemble, restore, snapshot, train_step
from segctl_jobs.metrics import summarize
from segctl_jobs.reporter import Reporter
from segctl_jobs.sample_cache import cached

log = logging.getLogger(__name__)


def run(run: Run, config: Config, world: World, stop: Stop) -> bool:
    """Trains `run` to its end, from its newest checkpoint where it has one.

    Returns:
        True when the training is complete; False when it was stopped, with a checkpoint, as `stop` asked.

    Raises:
        NonFiniteLossError: The loss or the gradient was NaN or infinite; the weights of the step before are the last.
        SegctlError: Something in the data, weights or checkpoints is wrong.
    """
    reporter = Reporter(run, world)
    reporter.status(now=True)
    dataset, info = open_split(config, None, training=True)
    held_out, _ = open_split(config, config.eval.split, training=False)
    dataset = cached(dataset, info, config, info.train_split, world)
    held_out = cached(held_out, info, config, config.eval.split or info.eval_split, world)
    state = checkpoint.newest(run.checkpoints)
    engine = assemble(run, config, world, dataset, info, from_checkpoint=state is not None)
    progress = restore(engine, run, state) if state is not None else Progress()
    _announce(engine, run, reporter, progress)
    before_checkpoint = reporter.before_checkpoint
    drilled = orders(run)  # None but in the runs of `segctl drill`
    if drilled is not None:
        held_out = drilled.held_out(held_out)
        before_checkpoint = drilled.before_checkpoint(before_checkpoint)
    writer = checkpoint.CheckpointWriter(run.checkpoints, before_checkpoint)

    def assess() -> bool:
        return _evaluate(engine, held_out, info, progress, reporter, stop)

    def save() -> None:
        if world.is_main:
            best = progress.best_step == progress.step
            kept = engine.timeline.keeps_at(progress.step)
            writer.save(snapshot(engine, info, progress), best=best, keep_as=f"epoch-{kept:04d}.pt" if kept else None)
            reporter.status(checkpoint_step=progress.step, checkpoint_time=time.time())

    try:
        # A run that was stopped during an evaluation, or killed between one and its checkpoint, starts with it.
        finished = True
        if _evaluation_is_due(engine, progress):
            finished = assess()
            save()
        if finished:
            batches = _batches(engine, dataset, info, progress.step)
            if drilled is not None:
                batches = drilled.batches(batches, engine, dataset, progress, stop)
            finished = _train(engine, batches, progress, reporter, stop, assess, save)
    finally:
        writer.wait()
    _conclude(engine, reporter, progress, finished, stop)
    return finished


def _evaluation_is_due(engine: Engine, progress: Progress) -> bool:
    """Whether the step that a run goes on from is to be evaluated, and has not been."""
    return 0 < progress.step > progress.evaluated_step and engine.timeline.evaluates_at(progress.step)


def _batches(engine: Engine, dataset: SegmentationDataset, info: DatasetInfo, start: int) -> Iterable[Batch]:
    """This process's share of each step's batch, from the step after `start` on."""
    config, world = engine.config, engine.world
    sampler = StepSampler(
        len(dataset),
        config.train.batch_size,
        config.seed,
        start=start,
        total=engine.timeline.total,
        rank=world.rank,
        size=world.size,
    )
    samples = TrainingSamples(
        dataset,
        info,
        config.seed,
        config.augment,
        config.input,
        finished=world.device.type == "cpu",  # where the model leaves nothing over, the workers do all
    )
    return training_batches(samples, sampler, world, _workers(config, world))


def _train(
    engine: Engine,
    batches: Iterable[Batch],
    progress: Progress,
    reporter: Reporter,
    stop: Stop,
    assess: Callable[[], bool],
    save: Callable[[], None],
) -> bool:
    """The loop; True when all steps and evaluations are done."""
    config, timeline = engine.config, engine.timeline
    meter = Meter(config.train.batch_size)
    began, done_before = time.monotonic(), progress.step
    for batch in batches:
        result = train_step(engine, batch, progress.step, stop)
        progress.step += 1
        step = progress.step
        meter.add()
        progress.losses.append(result.loss)
        if step % config.train.log_every == 0 or step == timeline.total or step == 1:
            figures = {"loss": _mean(progress.losses), "grad_norm": result.grad_norm, **meter.read()}
            reporter.record("train", step=step, epoch=timeline.epoch(step), lr=_lr(engine), **figures)
            progress.losses.clear()
        # Of the whole attempt so far, with its evaluations and checkpoints.
        seconds_a_step = (time.monotonic() - began) / (step - done_before)
        reporter.status(
            phase="training",
            step=step,
            epoch=timeline.epoch(step),
            loss=result.loss,
            lr=_lr(engine),
            samples_per_second=meter.samples_per_second,
            eta_seconds=(timeline.total - step) * seconds_a_step,
        )
        stopping = result.stop
        if not stopping and timeline.evaluates_at(step):
            stopping = not assess()
            meter.restart()
        if stopping or timeline.checkpoints_at(step):
            save()
        if stopping:
            return False
    return True


def _evaluate(
    engine: Engine, held_out: SegmentationDataset, info: DatasetInfo, progress: Progress, reporter: Reporter, stop: Stop
) -> bool:
    """Evaluates the weights as they are (their moving average where there is one); False when stopped on the way."""
    model = engine.average.model if engine.average is not None else engine.model

    def show(done: int, total: int) -> None:
        reporter.status(phase="evaluating", eval_done=done, eval_total=total)

    counted = count(
        model,
        held_out,
        info,
        engine.config.eval,
        engine.config.input,
        engine.world,
        amp=engine.amp,
        stop=lambda: stop() is not None,
        progress=show,
        workers=engine.config.train.workers,
    )
    engine.replica.train()
    if counted is None:
        return False
    measures = summarize(counted.confusion, info.classes)
    progress.evaluated_step, progress.miou = progress.step, measures["miou"]
    if progress.miou is not None and (progress.best_miou is None or progress.miou > progress.best_miou):
        progress.best_miou, progress.best_step = progress.miou, progress.step
    reporter.record("eval", step=progress.step, epoch=engine.timeline.epoch(progress.step), **measures)
    reporter.status(
        now=True,
        phase="training",
        miou=progress.miou,
        best_miou=progress.best_miou,
        best_step=progress.best_step,
        eval_done=None,
    )
    return True


class Meter:
    """Speed since the last reading."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.samples_per_second: float | None = None
        self.restart()

    def restart(self) -> None:
        """Starts afresh, so that an evaluation does not count as slow training."""
        self._steps = 0
        self._began = time.perf_counter()

    def add(self) -> None:
        """Counts a step that is done."""
        self._steps += 1
        seconds = time.perf_counter() - self._began
        if self._steps > 1 or self.samples_per_second is None:
            self.samples_per_second = self._steps * self.batch_size / seconds

    def read(self) -> dict[str, float | None]:
        self.restart()
        return {"samples_per_second": self.samples_per_second}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _announce(engine: Engine, run: Run, reporter: Reporter, progress: Progress) -> None:
    timeline = engine.timeline
    if engine.world.is_main:
        for leftover in run.checkpoints.glob(".tmp-*"):  # of an attempt that was killed while writing
            leftover.unlink(missing_ok=True)
    log.info(
        "training from step %d to %d on %d process(es), %s",
        progress.step,
        timeline.total,
        engine.world.size,
        engine.world.device,
    )
    reporter.record("start", step=progress.step, steps=timeline.total, world_size=engine.world.size)
    reporter.status(  # it is still starting: a model may have to be compiled in the first step
        now=True,
        step=progress.step,
        steps=timeline.total,
        epoch=timeline.epoch(progress.step),
        epochs=timeline.epoch(timeline.total),
        miou=progress.miou,
        best_miou=progress.best_miou,
        best_step=progress.best_step,
        checkpoint_step=progress.step or None,
        began=time.time(),
    )


def _conclude(engine: Engine, reporter: Reporter, progress: Progress, finished: bool, stop: Stop) -> None:
    reporter.record("end", step=progress.step, reason="completed" if finished else "stopped")
    reporter.status(
        now=True,
        phase="completed" if finished else "stopped",
        stopped_by=None if finished else stop() or "another rank",
    )


def _workers(config: Config, world: World) -> int:
    if config.train.workers is not None:
        return config.train.workers
    return default_workers(world)


def _lr(engine: Engine) -> float:
    return float(engine.optimizer.param_groups[0]["lr"])
