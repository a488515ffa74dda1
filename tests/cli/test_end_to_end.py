"""The installed program with real jobs: submitit starts the processes, gloo joins them, the run's directory tells."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from programs import SEGCTL, TINY, Said, status_of

import segctl
import segctl.runs.run
from segctl_datasets.shapes import Shapes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    """A runs folder with one run that was trained for two epochs, and what was said meanwhile."""
    folder = tmp_path_factory.mktemp("trained")
    environment = {**os.environ, "SEGCTL_RUNS": str(folder / "runs"), "SEGCTL_STATE_DIR": str(folder / "state")}
    done = subprocess.run(
        [SEGCTL, *TINY, "--epochs", "2", "--name", "first"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return folder / "runs", Said(done.returncode, done.stdout, done.stderr)


def _only_run(folder: Path) -> Path:
    (run,) = (path for path in folder.iterdir() if not path.name.startswith("."))
    return run


def test_training_ends_with_a_table_and_the_miou(trained: tuple[Path, Said]) -> None:
    _, said = trained
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0].split() == ["CLASS", "IOU", "ACCURACY", "DICE", "PIXELS"]
    assert [line.split()[0] for line in lines[1:-1]] == list(Shapes.classes)
    assert re.fullmatch(r"mIoU \d+\.\d\d %, pixel accuracy .*", lines[-1])
    # Progress and messages are not the result.
    assert re.search(r"epoch 1, step 3: mIoU \d+\.\d %", said.err)
    assert re.search(r"epoch 2, step 6: mIoU \d+\.\d %", said.err)


def test_the_run_says_where_it_comes_from(trained: tuple[Path, Said]) -> None:
    run = _only_run(trained[0])
    record = json.loads((run / "run.json").read_text())
    assert record["id"] == run.name
    assert record["kind"] == "train"
    assert (record["model"], record["backbone"], record["dataset"]) == ("enet", None, "shapes")
    assert record["argv"][1:4] == TINY[:3]
    assert record["versions"]["torch"]
    assert record["plugins"]["models"]["distribution"] == "segctl"
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["dataset"] == {"name": "shapes", "size": 64, "samples": 12, "eval_samples": 6}


def test_status_has_what_programs_need(trained: tuple[Path, Said], program: Callable[..., Said]) -> None:
    found = status_of(program, "--runs-dir", str(trained[0]))
    promised = {"id", "state", "backend", "model", "dataset", "epoch", "step", "miou", "best_miou", "why"}
    assert promised <= set(found)
    assert (found["state"], found["backend"], found["step"], found["epoch"]) == ("COMPLETED", "local", 6, 2)
    assert 0 <= found["miou"] <= found["best_miou"] <= 1
    for columns in ("80", "160"):
        lines = program(
            "status", "--runs-dir", str(trained[0]), env={**os.environ, "COLUMNS": columns}
        ).out.splitlines()
        assert len(lines) == 2
        assert all(len(line) <= int(columns) for line in lines)
        assert lines[1].startswith(found["id"])


def test_evaluation_finds_the_newest_matching_run(trained: tuple[Path, Said], program: Callable[..., Said]) -> None:
    runs = trained[0]
    before = set(runs.iterdir())
    said = program("eval", "--model", "enet", "--dataset", "shapes", "--procs", "2", "--json", "--runs-dir", runs)
    assert said.code == 0, said.err
    result = json.loads(said.out)
    (run,) = set(runs.iterdir()) - before
    assert result["id"] == run.name
    assert result["kind"] == "eval"
    assert result["measures"]["of"].split("-")[2] == "first"
    # The last evaluation of the training was of the same weights.
    assert result["measures"]["miou"] in _evaluations(runs / result["measures"]["of"])
    assert json.loads((run / "eval.json").read_text())["miou"] == result["measures"]["miou"]
    assert "best.pt" in said.err


def _evaluations(run: Path) -> list[float]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record["miou"] for record in records if record["event"] == "eval"]


def test_a_run_is_repeated_from_its_configuration(trained: tuple[Path, Said], program: Callable[..., Said]) -> None:
    runs, first = trained
    (config,) = runs.glob("*-first-*/config.yaml")
    again = program("train", config, "--name", "again")
    assert again.code == 0, again.err
    assert again.out == first.out


def test_wrong_requests_about_a_completed_run(trained: tuple[Path, Said], segctl: Callable[..., Said]) -> None:
    runs = trained[0]
    for argv, word in (
        (["resume", "first"], "has completed"),
        (["cancel", "first"], "has completed"),
        (["logs", "first", "--rank", "3"], "no rank 3"),
        (["eval", "first", "--checkpoint", "nowhere.pt"], "nowhere.pt"),
        (["eval", "first", "--split", "vall"], "vall"),
        (["eval", "first", "--model", "enet"], "--model"),
        (["eval", "--model", "fcn32s", "--backbone", "vgg16"], "fcn32s"),
    ):
        said = segctl(*argv, "--runs-dir", runs)
        assert (said.code, said.out, len(said.err.splitlines())) == (1, "", 1), said
        assert word in said.err


def test_damaged_checkpoints_are_said(trained: tuple[Path, Said], segctl: Callable[..., Said], tmp_path: Path) -> None:
    (best,) = trained[0].glob("*-first-*/checkpoints/best.pt")
    whole = best.read_bytes()
    for name, content in {
        "cut.pt": whole[: len(whole) // 2],
        "flipped.pt": whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 255]) + whole[len(whole) // 2 + 1 :],
        "empty.pt": b"",
        "text.pt": b"not a checkpoint",
    }.items():
        (tmp_path / name).write_bytes(content)
        said = segctl("eval", "first", "--checkpoint", tmp_path / name, "--runs-dir", trained[0])
        assert (said.code, said.out) == (1, ""), said
        (line,) = said.err.splitlines()
        assert name in line
        assert "damaged" in line


def test_photographs_become_masks_and_overlays(
    trained: tuple[Path, Said], segctl: Callable[..., Said], tmp_path: Path
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    generator = np.random.default_rng(0)
    sizes = {"grey.png": (33, 47), "colour.jpg": (64, 64), "transparent.png": (20, 90)}
    for (name, size), mode in zip(sizes.items(), ("L", "RGB", "RGBA"), strict=True):
        shape = (*size, len(mode)) if len(mode) > 1 else size
        Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8), mode).save(photos / name)
    said = segctl("predict", "first", photos, "-o", out, "--json", "--runs-dir", trained[0])
    assert said.code == 0, said.err
    predictions = {Path(each["image"]).name: each for each in json.loads(said.out)}
    assert set(predictions) == set(sizes)
    for name, (height, width) in sizes.items():
        mask = Image.open(predictions[name]["mask"])
        assert (mask.mode, mask.size) == ("P", (width, height))
        assert set(np.unique(mask)) <= set(range(len(Shapes.classes)))
        assert sum(predictions[name]["shares"].values()) == pytest.approx(1)
        assert Path(predictions[name]["overlay"]).is_file()


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["nowhere.png", "-o", "out"], "nowhere.png"),
        (["torn.png", "-o", "out"], "torn.png"),
        (["empty", "-o", "out"], "empty"),
        (["whole.png", "-o", "a-file"], "a-file"),
        (["whole.png", "-o", "out", "--checkpoint", "nowhere.pt"], "nowhere.pt"),
    ],
)
def test_wrong_requests_for_predictions(
    argv: list[str],
    word: str,
    trained: tuple[Path, Said],
    segctl: Callable[..., Said],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save("whole.png")
    Path("torn.png").write_bytes(Path("whole.png").read_bytes()[:500])
    Path("empty").mkdir()
    Path("a-file").touch()
    said = segctl("predict", "first", *argv, "--runs-dir", trained[0])
    assert (said.code, said.out, len(said.err.splitlines())) == (1, "", 1), said
    assert word in said.err
    assert not list(tmp_path.glob("out/*"))


def test_a_run_may_be_given_as_an_object(trained: tuple[Path, Said]) -> None:
    (run,) = (segctl.runs.run.Run(path) for path in trained[0].glob("*-first-*"))
    (found,) = segctl.status([run])
    assert (found.id, found.state) == (run.id, "COMPLETED")
    assert any("eval: step 6" in line for line in segctl.logs(run))
    assert {"train", "evaluate", "status"} <= set(dir(segctl))
