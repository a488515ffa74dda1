"""`--model.weights run:RUN`: a training starts from another run's best checkpoint, and keeps it."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from programs import TINY, Said, status_of, wait_for

from segctl.config.load import dump, resolve
from segctl.runs import store
from segctl.runs.run import Run
from segctl_jobs.build import create_model
from segctl_jobs.checkpoint import CheckpointWriter

CLASSES = ["background", "ring", "square", "triangle", "cross"]
SHAPES = ["--dataset", "shapes", "--dataset.samples", "12", "--dataset.eval_samples", "6", "--dry-run"]


def trained(tmp_path: Path, *, classes: list[str] = CLASSES, **flags: object) -> Run:
    """A run as training leaves it: a best checkpoint, and a later one."""
    config = resolve(None, {"model": "enet", "dataset": "shapes", **flags})
    record = {"kind": "train", "model": config.model.name, "dataset": "shapes", "name": "earlier"}
    run = store.create(dump(config), record, store.runs_dir())
    torch.manual_seed(1)
    weights = create_model(config.model, len(classes), from_checkpoint=False).state_dict()
    writer = CheckpointWriter(run.checkpoints)
    for step in (1, 2):
        state = {"step": step, "best_step": 1, "model": weights, "ema": None, "dataset_info": {"classes": classes}}
        writer.save(state, best=step == 1)
    writer.wait()
    return run


def weights_in(said: Said) -> str:
    assert said.code == 0, said.err
    found = yaml.safe_load(said.out)["model"]["weights"]
    assert isinstance(found, str)
    return found


@pytest.mark.parametrize("reference", ["earlier", "id", "path"])
def test_a_run_is_named_as_everywhere(reference: str, segctl: Callable[..., Said], tmp_path: Path) -> None:
    run = trained(tmp_path)
    text = {"id": run.id, "path": str(run.path)}.get(reference, reference)
    said = segctl("train", "--model", "enet", "--model.weights", f"run:{text}", *SHAPES)
    assert weights_in(said) == str(run.checkpoints / "best.pt")
    assert f"The model starts from best.pt of {run.id}." in said.err


def test_without_an_evaluation_it_is_the_newest(segctl: Callable[..., Said], tmp_path: Path) -> None:
    run = trained(tmp_path)
    (run.checkpoints / "best.pt").unlink()
    said = segctl("train", "--model", "enet", "--model.weights", "run:earlier", *SHAPES)
    assert weights_in(said) == str(run.checkpoints / "step-00000002.pt")
    assert "has not been evaluated yet" in said.err


def test_a_path_is_made_absolute(segctl: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(tmp_path)
    monkeypatch.chdir(run.checkpoints)
    said = segctl("train", "--model", "enet", "--model.weights", "best.pt", *SHAPES)
    assert weights_in(said) == str(run.checkpoints / "best.pt")


def test_a_run_that_is_not_there(segctl: Callable[..., Said], tmp_path: Path) -> None:
    trained(tmp_path)
    said = segctl("train", "--model", "enet", "--model.weights", "run:earliest", *SHAPES)
    assert said.code == 1
    assert "There is no run 'earliest'" in said.err


def test_other_classes_are_refused_with_a_command_that_takes_the_rest(
    segctl: Callable[..., Said], tmp_path: Path
) -> None:
    run = trained(tmp_path, classes=["road", "sky"])
    said = segctl("train", "--model", "enet", "--model.weights", "run:earlier", *SHAPES)
    assert said.code == 1
    assert f"The weights in {run.checkpoints / 'best.pt'} are for 2 classes, but shapes has 5." in said.err
    (command,) = re.findall("`(segctl weights import .*?)`", said.err)
    made = segctl(*[str(tmp_path / "fits.pt") if word == "FILE" else word for word in shlex.split(command)[1:]])
    assert "note: 2 entries stay random: fullconv.weight, fullconv.bias." in made.err
    assert segctl("train", "--model", "enet", "--model.weights", tmp_path / "fits.pt", *SHAPES).code == 0


def test_another_models_run_is_refused_in_the_same_way(segctl: Callable[..., Said], tmp_path: Path) -> None:
    trained(tmp_path)
    said = segctl("train", "--model", "fcn", "--backbone", "resnet18", "--model.weights", "run:earlier", *SHAPES)
    assert said.code == 1
    assert "do not fit the model" in said.err
    assert "--model fcn --model.backbone=resnet18 --num-classes 5 --partial" in said.err


@pytest.mark.slow
def test_the_weights_stay_when_the_other_run_is_gone(program: Callable[..., Said], tmp_path: Path) -> None:
    source = trained(tmp_path)
    done = program(*TINY, "--steps", "1", "--model.weights", "run:earlier", "--detach")
    assert done.code == 0, done.err
    run = Run(store.runs_dir() / done.out.strip())
    wait_for(lambda: status_of(program, run.id)["state"] == "COMPLETED")
    config = yaml.safe_load(run.config_file.read_text())
    assert config["model"]["weights"] == str(run.initial_weights)
    assert run.initial_weights.samefile(source.checkpoints / "best.pt")
    shutil.rmtree(source.path)
    assert program("train", run.config_file, "--dry-run").code == 0
