"""What a benchmark's server gets: zips read again with nothing of segctl, and splits whose labels are not public."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pytest
import torch
from PIL import Image

from segctl.config.load import dump, resolve
from segctl.errors import ConfigError, DataError
from segctl.plugin import dataset_info
from segctl.runs.files import write_json
from segctl.runs.run import Run
from segctl_datasets.ade20k import ADE20K
from segctl_datasets.cityscapes import Cityscapes
from segctl_datasets.pascal_voc import PascalVOC
from segctl_datasets.shapes import Shapes
from segctl_jobs import evaluate, preflight
from segctl_jobs.checkpoint import CheckpointWriter
from segctl_jobs.distributed import World
from segctl_models.enet import enet

ALONE = World(0, 1, 0, 1, torch.device("cpu"))
FRAMES = ["berlin_000000_000019", "bonn_000003_000019"]
WIDTH, HEIGHT = 64, 32
KINDS: dict[str, Any] = {"cityscapes": Cityscapes, "ade20k": ADE20K, "pascal_voc": PascalVOC, "shapes": Shapes}


def evaluated(folder: Path, dataset: str, **settings: Any) -> tuple[Run, Any]:
    """An evaluation as `segctl eval` leaves it, of a model that answers the class 13 or, where there are fewer, 3."""
    info = dataset_info(KINDS[dataset])
    model = enet(len(info.classes))
    answer = 13 if len(info.classes) > 13 else 3
    for name, parameter in model.named_parameters():
        parameter.data.zero_()
        if name == list(dict(model.named_parameters()))[-1]:  # the bias of the last layer
            parameter.data[answer] = 5.0
    flags = {"model": "enet", "dataset": dataset, "data_root": str(folder / "data"), "train.workers": 0}
    config = resolve(None, {**flags, **{f"eval.{key}": value for key, value in settings.items()}}, ())
    facts = {key: getattr(info, key) for key in ("classes", "palette", "ignore_index", "labels")}
    writer = CheckpointWriter(folder / "trained")
    state = {"step": 1, "best_step": 1, "model": model.state_dict(), "ema": None, "config": dump(config)}
    writer.save({**state, "dataset_info": facts}, best=True)
    writer.wait()
    run = Run(folder / "evaluation")
    run.path.mkdir(exist_ok=True)
    checkpoint = folder / "trained" / "step-00000001.pt"
    write_json(run.run_file, {"id": "evaluation", "kind": "eval", "of": "trained", "checkpoint": str(checkpoint)})
    preflight.check_evaluation(config, checkpoint)
    assert evaluate.run(run, config, ALONE, lambda: None)
    return run, json.loads(run.eval_file.read_text())


def pictures(run: Run) -> dict[str, Image.Image]:
    with zipfile.ZipFile(run.path / "predictions.zip") as archive:
        assert archive.testzip() is None
        return {name: Image.open(io.BytesIO(archive.read(name))) for name in archive.namelist()}


def test_cityscapes_gets_label_ids(tmp_path: Path) -> None:
    rows = np.full((HEIGHT, WIDTH), 26)
    layouts.cityscapes(tmp_path / "data" / "cityscapes", {"test": FRAMES}, rows.tolist())
    run, written = evaluated(tmp_path, "cityscapes", split="test", submission=True)
    found = pictures(run)
    # The server looks for one file <city>_<sequence>_<frame>*.png anywhere in the zip.
    assert sorted(found) == [f"{frame}_pred_labelIds.png" for frame in FRAMES]
    for picture in found.values():
        assert picture.size == (WIDTH, HEIGHT)
        assert np.array_equal(np.asarray(picture), np.full((HEIGHT, WIDTH), 26))  # 13, car, is the label id 26
    assert (written["split"], written["images"]) == ("test", 2)
    assert not {"miou", "per_class", "confusion"} & set(written)
    assert json.loads(run.status_file.read_text())["miou"] is None
    assert [json.loads(line)["event"] for line in run.metrics_file.read_text().splitlines()] == ["start", "end"]


def test_a_split_with_labels_is_measured_as_well(tmp_path: Path) -> None:
    rows = np.full((HEIGHT, WIDTH), 26)
    layouts.cityscapes(tmp_path / "data" / "cityscapes", {"val": FRAMES[:1]}, rows.tolist())
    run, written = evaluated(tmp_path, "cityscapes", submission=True)
    assert list(pictures(run)) == ["berlin_000000_000019_pred_labelIds.png"]
    assert (written["split"], written["miou"]) == ("val", 1.0)


def test_ade20k_gets_one_more_than_the_class(tmp_path: Path) -> None:
    layouts.ade20k(tmp_path / "data" / "ade20k")
    run, _ = evaluated(tmp_path, "ade20k", split="test", submission=True)
    found = pictures(run)
    assert list(found) == ["ADE_test_00000001.png"]
    assert np.asarray(found["ADE_test_00000001.png"]).tolist() == [[14, 14], [14, 14]]


def test_voc_gets_its_palette_in_its_folders(tmp_path: Path) -> None:
    layouts.voc(tmp_path / "data" / "pascal_voc", train=["2007_a"], val=["2007_v"], test=["2008_t"])
    run, _ = evaluated(tmp_path, "pascal_voc", split="test", submission=True)
    ((name, picture),) = pictures(run).items()
    assert name == "results/VOC2012/Segmentation/comp6_test_cls/2008_t.png"
    assert picture.mode == "P"
    assert np.asarray(picture).tolist() == [[13, 13], [13, 13]]
    assert picture.convert("RGB").getpixel((0, 0)) == (192, 0, 128)  # the devkit's colour of horse
    first = (run.path / "predictions.zip").read_bytes()
    evaluated(tmp_path, "pascal_voc", split="test", submission=True)
    assert (run.path / "predictions.zip").read_bytes() == first


def test_what_cannot_be_sent_or_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="shapes has no benchmark server that predictions could be sent to"):
        evaluated(tmp_path, "shapes", submission=True)
    layouts.cityscapes(tmp_path / "data" / "cityscapes", {"test": FRAMES, "train": FRAMES})
    with pytest.raises(ConfigError, match="labels of test are not public: there is nothing to measure"):
        evaluated(tmp_path, "cityscapes", split="test")
    flags = {"model": "enet", "dataset": "cityscapes", "data_root": str(tmp_path / "data"), "eval.split": "test"}
    with pytest.raises(ConfigError, match="labels of test are not public, so a training cannot be measured on it"):
        preflight.check(resolve(None, flags, ()), processes=1, from_checkpoint=False)
