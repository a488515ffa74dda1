"""What a new user gets wrong: each gives one clear sentence and exit code 1, and leaves nothing half-written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ENET = ["train", "--model", "enet", "--dataset"]
SHAPES = [*ENET, "shapes"]
FOLDER = [*ENET, "folder", "--data-root", "DATA"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new user's working directory, with small data of their own and files that are not what they seem."""
    monkeypatch.chdir(tmp_path)
    _pictures(tmp_path / "DATA" / "folder")
    (tmp_path / "empty").mkdir()
    (tmp_path / "a-file").write_text("not a folder")
    (tmp_path / "tab.yaml").write_text("model: enet\ndataset: shapes\ntrain:\n\tepochs: 1\n")
    (tmp_path / "twice.yaml").write_text("model: enet\ndataset: shapes\nseed: 1\nseed: 2\n")
    (tmp_path / "list.yaml").write_text("- model\n")
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    (tmp_path / "misspelt.yaml").write_text("model: enet\ndataset: shapes\ntrain: {epoch: 3}\n")
    return tmp_path


def _pictures(folder: Path) -> None:
    """Eight small pictures with masks of the classes 0 and 1, and lists that make six of them the training split."""
    generator = np.random.default_rng(0)
    for sub in ("images", "masks"):
        (folder / sub).mkdir(parents=True)
    for number in range(8):
        image = generator.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        mask = (np.arange(64) < 8 * number).astype(np.uint8)[None].repeat(48, axis=0)
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    (folder / "train.txt").write_text("".join(f"{number}.png\n" for number in range(6)))
    (folder / "val.txt").write_text("6.png\n7.png\n")
    (folder / "classes.yaml").write_text("names: [left, right]\n")


CASES: dict[str, tuple[list[str], list[str]]] = {
    # what is wrong: (argv, words that the sentence has)
    "no model to measure": (["bench"], ["MODEL"]),
    "a model to measure that is none": (["bench", "enett"], ["enett", "'enet'"]),
    "an option that a measured model has not": (["bench", "enet", "--model.width", "4"], ["model.width", "weights"]),
    "an option of a loss to measure with": (
        ["bench", "enet", "--loss.gamma", "2"],
        ["--loss.gamma", "options of models"],
    ),
    "a size that is none": (["bench", "enet", "--size", "512"], ["--size", "'512'", "512x1024"]),
    "a size too small": (["bench", "enet", "--size", "16x64"], ["16x64", "32x32"]),
    "no image to measure with": (["bench", "enet", "--batch", "0"], ["--batch", "1"]),
    "no time to measure in": (["bench", "enet", "--seconds", "0"], ["seconds", "above 0"]),
    "endless time to measure in": (["bench", "enet", "--seconds", "inf"], ["seconds", "inf", "finite"]),
    "a device that is none": (["bench", "enet", "--device", "gpu"], ["'gpu'", "cpu nor cuda"]),
    "a yardstick that is none": (
        ["bench", "enet", "--device", "cpu", "--yardstick", "fcn_resnet"],
        ["'fcn_resnet'", "'fcn_resnet50'"],
    ),
    "a drill that sets what is its own": (
        ["drill", *SHAPES[1:], "--set", "train.log_every=5"],
        ["train.log_every", "--steps"],
    ),
    "a drill of too few steps": (["drill", *SHAPES[1:], "--steps", "2"], ["--steps", "6 or more"]),
    "a disturbance that there is not": (["drill", *SHAPES[1:], "--only", "lost_node"], ["lost_node", "'lost-node'"]),
    "nothing is named": (["train"], ["model is missing", "enet"]),
    "unknown command": (["trian"], ["trian", "'train'"]),
    "unknown model": (["train", "--model", "enett", "--dataset", "shapes"], ["enett", "'enet'"]),
    "unknown data set": ([*ENET, "camvidd"], ["camvidd", "'camvid'"]),
    "unknown loss": ([*SHAPES, "--loss", "crossentropy"], ["crossentropy", "'cross_entropy'"]),
    "unknown backbone": (
        ["train", "--model", "fcn32s", "--dataset", "shapes", "--backbone", "vgg61"],
        ["vgg61", "vgg16"],
    ),
    "a backbone where there is none": ([*SHAPES, "--backbone", "vgg16"], ["backbone", "enet"]),
    "misspelt flag": ([*SHAPES, "--epoch", "3"], ["--epoch", "'--epochs'"]),
    "option of sbatch": ([*SHAPES, "--account", "vision"], ["--account", "use --slurm account=VALUE"]),
    "option of sbatch with =": ([*SHAPES, "--mem=4G"], ["--mem", "use --slurm mem=VALUE"]),
    "option of sbatch without value": ([*SHAPES, "--exclusive"], ["--exclusive", "use --slurm exclusive."]),
    "option of sbatch where nothing is submitted": (["status", "--qos", "high"], ["No such option: --qos. See"]),
    "--slurm without value": (
        [*SHAPES, "--on", "slurm", "--slurm", "--dry-run"],
        ["--slurm has no value: --dry-run follows. Write --slurm KEY=VALUE."],
    ),
    "several numbers for one": ([*SHAPES, "--lr", "0.1,0.2"], ["'0.1,0.2'", "use --set optimizer.lr=0.1,0.2"]),
    "several values for an option": (
        ["train", "--model", "fcn32s", "--dataset", "shapes", "--backbone", "vgg16,vgg19"],
        ["use --set model.backbone=vgg16,vgg19"],
    ),
    "misspelt option of a plugin": ([*SHAPES, "--model.weight", "x"], ["model.weight", "weights"]),
    "option of a plugin without value": ([*SHAPES, "--model.weights"], ["--model.weights", "no value"]),
    "misspelt --set": ([*SHAPES, "--set", "train.epoch=3"], ["train.epoch", "train.epochs"]),
    "--set without =": ([*SHAPES, "--set", "train.epochs"], ["train.epochs", "KEY=VALUE"]),
    "setting as a flag": ([*SHAPES, "--train.amp", "off"], ["--train.amp", "--set train.amp"]),
    "string for a number": ([*SHAPES, "--lr", "fast"], ["optimizer.lr", "'fast'", "number"]),
    "fraction for a whole number": ([*SHAPES, "--batch-size", "2.5"], ["train.batch_size", "2.5", "whole number"]),
    "string for an option's number": ([*SHAPES, "--dataset.samples", "many"], ["dataset.samples", "'many'"]),
    "more processes than samples in a batch": (
        [*SHAPES, "--batch-size", "2", "--gpus", "0", "--procs", "3"],
        ["train.batch_size", "2 samples", "3 processes"],
    ),
    "a moment beyond 1": ([*SHAPES, "--set", "optimizer.betas=[2, 0.9]"], ["optimizer.betas", "2"]),
    "what the optimizer refuses": (
        [*SHAPES, "--set", "optimizer.nesterov=true", "--set", "optimizer.momentum=0"],
        ["optimizer", "Nesterov"],
    ),
    "zero epochs": ([*SHAPES, "--epochs", "0"], ["train.epochs", "above 0"]),
    "epochs and steps": ([*SHAPES, "--epochs", "1", "--steps", "1"], ["train.epochs", "train.steps"]),
    "a choice that is none": ([*SHAPES, "--set", "schedule.name=polly"], ["schedule.name", "'poly'"]),
    "a name that cannot be a folder's": ([*SHAPES, "--name", "a/b"], ["name", "'a/b'"]),
    "more GPUs than there are": ([*SHAPES, "--gpus", "99"], ["99 GPUs"]),
    "more nodes than there are": ([*SHAPES, "--nodes", "2"], ["nodes"]),
    "unknown place": ([*SHAPES, "--on", "lokal"], ["lokal", "local"]),
    "fp16 on a CPU": ([*SHAPES, "--gpus", "0", "--set", "train.amp=fp16"], ["train.amp", "bf16"]),
    "weights that are not there": ([*SHAPES, "--model.weights", "nowhere.pt"], ["nowhere.pt"]),
    "weights that are none": ([*SHAPES, "--model.weights", "a-file"], ["a-file"]),
    "unknown recipe": (["train", "quickstrat"], ["quickstrat", "'quickstart'"]),
    "missing recipe file": (["train", "my/recipe.yaml"], ["my/recipe.yaml"]),
    "folder as recipe": (["train", "empty"], ["empty"]),
    "YAML with a tab": (["train", "tab.yaml"], ["tab.yaml", "4", "tab"]),
    "YAML with a key twice": (["train", "twice.yaml"], ["twice.yaml", "seed"]),
    "YAML that is a list": (["train", "list.yaml"], ["list.yaml"]),
    "binary file as recipe": (["train", "binary.yaml"], ["binary.yaml"]),
    "misspelt key in YAML": (["train", "misspelt.yaml"], ["train.epoch", "train.epochs", "misspelt.yaml"]),
    "missing data": ([*ENET, "camvid", "--data-root", "empty"], ["camvid", "train.txt", "--data-root"]),
    "missing data root": ([*ENET, "camvid", "--data-root", "nowhere"], ["camvid", "nowhere"]),
    "empty folder": ([*ENET, "folder", "--data-root", "empty"], ["folder", "images"]),
    "unknown split": ([*FOLDER, "--set", "eval.split=vall"], ["vall", "'val'"]),
    "runs folder is a file": ([*SHAPES, "--runs-dir", "a-file"], ["a-file", "--runs-dir"]),
    "runs folder below a file": ([*SHAPES, "--runs-dir", "a-file/runs"], ["a-file/runs", "--runs-dir"]),
    "runs folder of the kernel": ([*SHAPES, "--runs-dir", "/proc/runs"], ["/proc/runs", "--runs-dir"]),
    "runs folder of the kernel in a dry run": (
        [*SHAPES, "--dry-run", "--runs-dir", "/proc/runs"],
        ["No run can be made in /proc/runs", "--runs-dir"],
    ),
    "unknown run": (["status", "nothing-like-it"], ["nothing-like-it"]),
    "logs of an unknown run": (["logs", "nothing-like-it"], ["nothing-like-it"]),
    "why of an unknown run": (["why", "nothing-like-it"], ["nothing-like-it"]),
    "cancel an unknown run": (["cancel", "nothing-like-it"], ["nothing-like-it"]),
    "requeue an unknown run": (["requeue", "nothing-like-it"], ["nothing-like-it"]),
    "resume an unknown run": (["resume", "nothing-like-it"], ["nothing-like-it"]),
    "evaluate an unknown run": (["eval", "nothing-like-it"], ["nothing-like-it"]),
    "evaluate what was never trained": (["eval", "--model", "enet"], ["enet"]),
    "evaluate with another model": (
        ["eval", "--model", "enet", "--set", "model.weights=x"],
        ["model.weights", "trained"],
    ),
    "predict with an unknown run": (["predict", "nothing-like-it", "x.png", "-o", "out"], ["nothing-like-it"]),
    "predict without a folder": (["predict", "nothing-like-it", "x.png"], ["--out"]),
    "rank that is no number": (["logs", "run", "--rank", "one"], ["--rank"]),
    "upsampling without a data set": (["weights", "dunet-upsampling", "-o", "w.pt"], ["--dataset"]),
    "upsampling of a stride that there is not": (
        ["weights", "dunet-upsampling", "--dataset", "shapes", "--model.output_stride", "8", "-o", "w.pt"],
        ["model.output_stride", "16"],
    ),
    "upsampling into a folder that is not there": (
        ["weights", "dunet-upsampling", "--dataset", "shapes", "-o", "nowhere/w.pt"],
        ["nowhere/w.pt", "-o"],
    ),
    "unknown plugin": (["plugins", "show", "enett"], ["enett", "'enet'"]),
    "unknown kind": (["plugins", "list", "modles"], ["modles", "'models'"]),
    "nothing to check": (["plugins", "check"], ["--all"]),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_input_is_one_sentence(case: str, place: Path, segctl: Callable) -> None:
    argv, words = CASES[case]
    assert_refused(segctl, argv, words, place)


def assert_refused(segctl: Callable, argv: list[str], words: list[str], place: Path) -> None:
    before = _files(place)
    said = segctl(*argv)
    assert said.code == 1, said
    lines = [line for line in said.err.splitlines() if line and not line.startswith("note: ")]
    assert len(lines) == 1, said.err
    assert lines[0].startswith("error: ")
    assert said.out == ""
    for word in words:
        assert word in lines[0]
    assert _files(place) == before


def _files(folder: Path) -> dict[str, bytes]:
    paths = (Path(top) / name for top, folders, names in os.walk(folder) for name in (*folders, *names))
    kept = (path for path in paths if "state" not in path.relative_to(folder).parts[:1])
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in kept}


def _damage_png(place: Path) -> str:
    path = place / "DATA/folder/images/0.png"
    path.write_bytes(path.read_bytes()[:600])
    return "0.png"


def _mask_out_of_range(place: Path) -> str:
    mask = np.zeros((48, 64), np.uint8)
    mask[10, 10] = 7
    Image.fromarray(mask).save(place / "DATA/folder/masks/0.png")
    return "0.png"


def _no_images(place: Path) -> str:
    for path in (place / "DATA/folder/images").iterdir():
        path.unlink()
    return "images"


def _missing_mask(place: Path) -> str:
    (place / "DATA/folder/masks/3.png").unlink()
    return "3.png"


def _empty_list(place: Path) -> str:
    (place / "DATA/folder/train.txt").write_text("")
    return "train"


def _another_size(place: Path) -> str:
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(place / "DATA/folder/masks/0.png")
    return "0.png"


@pytest.mark.parametrize(
    "spoil", [_damage_png, _mask_out_of_range, _no_images, _missing_mask, _empty_list, _another_size]
)
def test_faulty_data_are_named(spoil: Callable[[Path], str], place: Path, segctl: Callable) -> None:
    word = spoil(place)
    assert_refused(segctl, [*FOLDER, "--gpus", "0"], [word], place)
