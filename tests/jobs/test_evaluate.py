"""The evaluation job: what it writes into its run directory, and which checkpoints it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from counted_samples import ALONE, counted
from torch import nn

from segctl.config.load import dump, resolve
from segctl.config.schema import Evaluation
from segctl.errors import CheckpointError
from segctl.plugin import DatasetInfo, dataset_info
from segctl.runs.files import write_json
from segctl.runs.run import Run
from segctl_datasets.shapes import Shapes
from segctl_jobs import evaluate
from segctl_jobs.checkpoint import CheckpointWriter
from segctl_models.enet import enet


@pytest.fixture
def evaluation(tmp_path: Path) -> tuple[Run, Any, nn.Module]:
    """An evaluation run as `segctl eval` leaves it, of a checkpoint as training writes it."""
    flags = {"model": "enet", "dataset": {"name": "shapes", "eval_samples": 5}, "train.workers": 0}
    config = resolve(None, flags, ())
    torch.manual_seed(3)
    model = enet(5)
    info = dataset_info(Shapes)
    write_checkpoint(tmp_path / "trained", model, info, dump(config))
    run = Run(tmp_path / "evaluation")
    run.path.mkdir()
    checkpoint = str(tmp_path / "trained" / "step-00000012.pt")
    write_json(run.run_file, {"id": "evaluation", "kind": "eval", "of": "trained", "checkpoint": checkpoint})
    return run, config, model


def write_checkpoint(folder: Path, model: nn.Module, info: DatasetInfo, config: str) -> None:
    facts = {"classes": info.classes, "palette": info.palette, "ignore_index": info.ignore_index, "labels": info.labels}
    writer = CheckpointWriter(folder)
    state = {
        "step": 12,
        "best_step": 12,
        "model": model.state_dict(),
        "ema": None,
        "config": config,
        "dataset_info": facts,
    }
    writer.save(state, best=True)
    writer.wait()


def test_the_job_writes_what_it_found(evaluation: tuple[Run, Any, nn.Module]) -> None:
    run, config, model = evaluation
    assert evaluate.run(run, config, ALONE, lambda: None)
    written = json.loads(run.eval_file.read_text())
    expected = counted(Shapes(Path("."), "val", eval_samples=5), model=model)
    assert written["confusion"] == expected.tolist()
    assert written["images"] == 5
    assert written["step"] == 12
    assert written["split"] == "val"
    assert written["of"] == "trained"
    assert written["settings"]["mode"] == "whole"
    assert written["miou"] == pytest.approx(independent_miou(expected))
    assert [row["name"] for row in written["per_class"]] == list(Shapes.classes)
    status = json.loads(run.status_file.read_text())
    assert status["phase"] == "completed"
    assert status["miou"] == written["miou"]
    events = [json.loads(line)["event"] for line in run.metrics_file.read_text().splitlines()]
    assert events == ["start", "eval", "end"]


def independent_miou(confusion: np.ndarray) -> float:
    values = []
    for index in range(len(confusion)):
        union = confusion[index].sum() + confusion[:, index].sum() - confusion[index, index]
        if union:
            values.append(confusion[index, index] / union)
    return sum(values) / len(values)


def test_the_job_saves_predictions_when_asked(evaluation: tuple[Run, Any, nn.Module]) -> None:
    run, config, _ = evaluation
    config = config.model_copy(update={"eval": Evaluation(save_predictions=True, split="test")})
    assert evaluate.run(run, config, ALONE, lambda: None)
    assert len(list(run.predictions.glob("test-*.png"))) == 5
    assert json.loads(run.eval_file.read_text())["split"] == "test"


def test_a_stopped_job_leaves_no_result(evaluation: tuple[Run, Any, nn.Module]) -> None:
    run, config, _ = evaluation
    assert not evaluate.run(run, config, ALONE, lambda: "SIGTERM")
    assert not run.eval_file.exists()
    status = json.loads(run.status_file.read_text())
    assert (status["phase"], status["stopped_by"]) == ("stopped", "SIGTERM")


def test_a_checkpoint_of_other_classes_is_refused(evaluation: tuple[Run, Any, nn.Module]) -> None:
    run, config, model = evaluation
    info = DatasetInfo(("background", "disc", "square", "triangle", "heart"), ((0, 0, 0),) * 5)
    write_checkpoint(Path(json.loads(run.run_file.read_text())["checkpoint"]).parent, model, info, dump(config))
    with pytest.raises(CheckpointError, match=r"trained on other classes .*heart.*cross"):
        evaluate.run(run, config, ALONE, lambda: None)


def test_a_missing_checkpoint_is_named(evaluation: tuple[Run, Any, nn.Module]) -> None:
    run, config, _ = evaluation
    write_json(run.run_file, {"checkpoint": str(run.path / "gone.pt")})
    with pytest.raises(CheckpointError, match=r"no checkpoint .*gone\.pt"):
        evaluate.run(run, config, ALONE, lambda: None)
