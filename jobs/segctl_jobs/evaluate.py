"""The evaluation job, and what it shares with training and prediction; see `counting` for how it counts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segctl.config import schema
from segctl.errors import CheckpointError, listing
from segctl.plugin import DatasetInfo
from segctl.runs.files import read_json, write_json
from segctl.runs.run import Run
from segctl_jobs import checkpoint
from segctl_jobs.build import amp_dtype, create_model, memory_format, open_split
from segctl_jobs.counting import Counted, count, prediction_path
from segctl_jobs.distributed import World
from segctl_jobs.metrics import summarize
from segctl_jobs.reporter import Reporter
from segctl_jobs.server_zip import paths_inside, write_zip

__all__ = ["check_classes", "is_labelled", "prediction_dtype", "run", "trained_model"]

log = logging.getLogger(__name__)


def run(run: Run, config: schema.Config, world: World, stop: Callable[[], str | None]) -> bool:
    """The evaluation job: predicts a split with the checkpoint that run.json names, and writes eval.json.

    Of a split whose labels are not public nothing is measured; eval.json then holds no measures.

    Returns:
        True when it is complete; False when it was stopped, as `stop` asked, with nothing counted.

    Raises:
        CheckpointError: The checkpoint is missing, damaged, or not of this model or of these classes.
        DataError: The data set is missing or faulty.
    """
    reporter = Reporter(run, world)
    reporter.status(now=True)
    record = read_json(run.run_file) or {}
    path = Path(record["checkpoint"])
    dataset, info = open_split(config, config.eval.split, training=False)
    inside = paths_inside(dataset, config.dataset.name) if config.eval.submission else []
    state = checkpoint.read(run.held_checkpoint if run.held_checkpoint.exists() else path)
    check_classes(state, info.classes, path)
    model = trained_model(config, state, path, world.device)
    log.info("evaluating %s on %d images, %d process(es), %s", path, len(dataset), world.size, world.device)
    reporter.record("start", step=state["step"], world_size=world.size)
    began = time.monotonic()
    counted = count(
        model,
        dataset,
        info,
        config.eval,
        config.input,
        world,
        amp=prediction_dtype(config, world.device),
        stop=lambda: stop() is not None,
        progress=lambda done, total: reporter.status(
            phase="evaluating", step=state["step"], eval_done=done, eval_total=total
        ),
        predictions=run.predictions if config.eval.save_predictions or config.eval.submission else None,
        workers=config.train.workers,
    )
    if counted is None:
        reporter.record("end", step=state["step"], reason="stopped")
        reporter.status(now=True, phase="stopped", stopped_by=stop() or "another rank")
        return False
    split = config.eval.split or info.eval_split
    measures = summarize(counted.confusion, info.classes) if is_labelled(info, split) else {}
    if world.is_main and inside:
        files = [prediction_path(run.predictions, dataset.name(index)) for index in range(len(dataset))]
        write_zip(run.predictions_zip, files, inside)
    if world.is_main:
        reporter.fence.check(now=True)
        facts = {
            **{key: record[key] for key in ("id", "of") if key in record},
            "checkpoint": str(path),
            "step": state["step"],
            "weights": "model" if state["ema"] is None else "ema",
            "dataset": config.dataset.name,
            "split": split,
            "settings": config.eval.model_dump(mode="json"),
            "world_size": world.size,
            "seconds": round(time.monotonic() - began, 3),
        }
        write_json(run.eval_file, {**facts, **_result(counted, measures)})
    if measures:
        reporter.record("eval", step=state["step"], **measures)
    reporter.record("end", step=state["step"], reason="completed")
    reporter.status(now=True, phase="completed", miou=measures.get("miou"), eval_done=counted.images)
    return True


def is_labelled(info: DatasetInfo, split: str) -> bool:
    """Whether the labels of a split are public, so that there is something to measure."""
    return split not in (info.unlabelled_splits or ())


def _result(counted: Counted, measures: Mapping[str, Any]) -> dict[str, Any]:
    images = {"images": counted.images, "tiled_images": counted.tiled}
    return {**images, **measures, "confusion": counted.confusion.tolist()} if measures else images


def trained_model(config: schema.Config, state: Mapping[str, Any], path: Path, device: torch.device) -> nn.Module:
    """The model of `config` on `device`, with the weights of a checkpoint (their moving average where it has one).

    Raises:
        CheckpointError: The weights are another model's.
    """
    model = create_model(config.model, len(state["dataset_info"]["classes"]), from_checkpoint=True)
    checkpoint.fit(model, state["model"] if state["ema"] is None else state["ema"], path)
    layout = memory_format(config.train.channels_last, prediction_dtype(config, device), device)
    return model.to(device, memory_format=layout).eval()


def prediction_dtype(config: schema.Config, device: torch.device) -> torch.dtype | None:
    """The autocast type of a prediction: the training's, but full precision on a CPU for what was trained in fp16."""
    if config.train.amp == "fp16" and device.type == "cpu":
        return None
    return amp_dtype(config.train.amp, device)


def check_classes(state: Mapping[str, Any], classes: Sequence[str], path: Path) -> None:
    """Refuses to score predictions of one set of classes against masks of another.

    Raises:
        CheckpointError: The classes that the checkpoint was trained on are not `classes`.
    """
    trained = state["dataset_info"]["classes"]
    if list(trained) != list(classes):
        raise CheckpointError(
            f"{path} was trained on other classes ({listing(trained)}) than the data set has ({listing(classes)}).",
            "Evaluate on the data it was trained for, or train again.",
        )
