"""The installed program with real jobs: submitit starts the processes, gloo joins them, the run's directory tells."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from programs import SEGCTL, TINY, Said
from terminal import CTRL_C, Terminal

from segctl_datasets.shapes import Shapes

pytestmark = pytest.mark.slow

LONG = ["--epochs", "500", "--set", "train.eval_every=0"]  # longer than any test waits


@pytest.fixture(autouse=True)
def nothing_left_running(program: Callable[..., Said]) -> Iterator[None]:
    yield
    for run in json.loads(program("status", "--json").out):
        if run["state"] in ("PENDING", "RUNNING", "STALLED"):
            program("cancel", run["id"])


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


def _status(program: Callable[..., Said], *argv: str) -> dict[str, Any]:
    (found,) = json.loads(program("status", "--json", *argv).out)
    assert isinstance(found, dict)
    return found


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
    found = _status(program, "--runs-dir", str(trained[0]))
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


def test_detached_run_is_followed_cancelled_and_resumed(program: Callable[..., Said], tmp_path: Path) -> None:
    said = program(*TINY, *LONG, "--procs", "2", "--detach")
    assert said.code == 0, said.err
    run = said.out.strip()
    assert (tmp_path / "runs" / run / "run.json").is_file()
    _wait_for(lambda: (_status(program, run)["step"] or 0) >= 2)
    prefix = run[: len("20260101-000000")]
    assert _status(program, prefix)["state"] == "RUNNING"
    assert program("resume", run).code == 1
    assert program("cancel", run).code == 0
    stopped = _status(program, run)
    assert stopped["state"] == "CANCELLED"
    assert f"segctl resume {run}" in stopped["hint"]
    assert "training from step 0" in program("logs", run).out
    again = program("resume", run, "--procs", "1", "--detach")
    assert (again.code, again.out.strip()) == (0, run), again.err
    _wait_for(lambda: (_status(program, run)["step"] or 0) > stopped["step"])
    resumed = _status(program, run)
    assert (resumed["attempt"], resumed["world_size"], resumed["state"]) == (2, 1, "RUNNING")


def _wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_ctrl_c_asks_once_and_stops_with_a_checkpoint(program: Callable[..., Said]) -> None:
    terminal = Terminal(*TINY, *LONG, "--name", "asked")
    try:
        terminal.wait_for(r"loss \d")
        terminal.type(CTRL_C)
        terminal.wait_for(r"Stop the run\? \[y/N\] ")
        terminal.type("n\n")
        terminal.wait_for(r"step \d+/\d+")
        assert _status(program, "asked")["state"] == "RUNNING"
        terminal.type(CTRL_C)
        terminal.wait_for(r"Stop the run\? \[y/N\] ")
        terminal.type("y\n")
        code, screen = terminal.end()
    finally:
        terminal.kill()
    assert code == 130
    stopped = _status(program, "asked")
    assert stopped["state"] == "CANCELLED"
    assert f"segctl resume {stopped['id']}" in screen
    assert list(Path(stopped["path"], "checkpoints").glob("step-*.pt"))
    assert "Traceback" not in screen


def test_second_ctrl_c_means_yes(program: Callable[..., Said]) -> None:
    terminal = Terminal(*TINY, *LONG, "--name", "hurried")
    try:
        terminal.wait_for(r"loss \d")
        terminal.type(CTRL_C)
        terminal.wait_for(r"Stop the run\? \[y/N\] ")
        terminal.type(CTRL_C)
        code, screen = terminal.end()
    finally:
        terminal.kill()
    assert code == 130, screen
    assert _status(program, "hurried")["state"] == "CANCELLED"


def test_without_a_terminal_ctrl_c_stops_at_once(program: Callable[..., Said]) -> None:
    process = subprocess.Popen([SEGCTL, *TINY, *LONG], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    while "loss" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert out == ""
    assert _status(program)["state"] == "CANCELLED"


def test_the_job_outlives_its_terminal(program: Callable[..., Said]) -> None:
    terminal = Terminal(*TINY, *LONG, "--name", "left-alone")
    try:
        terminal.wait_for(r"loss \d")
        terminal.close()
        terminal.process.wait(timeout=60)
    finally:
        terminal.kill()
    step = _status(program, "left-alone")["step"]
    _wait_for(lambda: (_status(program, "left-alone")["step"] or 0) > step)


def test_the_traceback_of_the_rank_that_failed_is_shown(program: Callable[..., Said], tmp_path: Path) -> None:
    plugins = _install_plugin(tmp_path / "plugins")
    argv = [word if word != "enet" else "crashing" for word in TINY]
    said = program(*argv, "--procs", "2", env={**os.environ, "PYTHONPATH": str(plugins)})
    assert said.code == 1
    assert "Traceback" in said.err
    assert "ZeroDivisionError" in said.err
    assert said.err.splitlines()[-1].startswith("error: ")
    assert "rank 1" in said.err.splitlines()[-1]
    found = _status(program)
    assert found["state"] == "FAILED"
    assert "ZeroDivisionError" in found["why"]


def _install_plugin(folder: Path) -> Path:
    """A distribution with a model that fails on its second process in training."""
    metadata = folder / "crashing-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: crashing\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[segctl.models]\ncrashing = crashing:Crashing\n")
    (folder / "crashing.py").write_text(
        "import os\nfrom torch import nn\n\n\n"
        "class Crashing(nn.Module):\n"
        "    '''A model that fails.'''\n\n"
        "    def __init__(self, num_classes):\n"
        "        super().__init__()\n"
        "        self.head = nn.Conv2d(3, num_classes, 1)\n\n"
        "    def forward(self, images):\n"
        "        if os.environ.get('RANK') == '1':\n"
        "            1 / 0\n"
        "        return self.head(images)\n"
    )
    return folder


def test_an_error_of_the_users_in_the_job_is_one_sentence(program: Callable[..., Said], tmp_path: Path) -> None:
    argv = [*TINY, "--steps", "3", "--set", "optimizer.lr=1e30", "--set", "optimizer.name=sgd"]
    said = program(*argv)
    assert said.code == 1
    assert "Traceback" not in said.err
    assert said.err.splitlines()[-1].startswith("error: The ")
    assert "optimizer.lr" in said.err.splitlines()[-1]


def test_a_full_disk_leaves_nothing_half_written(program: Callable[..., Said], tmp_path: Path) -> None:
    """No file may grow beyond 100 bytes, so that writing the run's configuration fails in the middle."""
    said = program(*TINY, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)))
    assert said.code == 1
    assert said.err.splitlines()[-1].startswith("error: No run can be made in ")
    assert "Traceback" not in said.err
    assert not (tmp_path / "runs").exists()


def test_a_disk_that_fills_up_while_training_is_said(program: Callable[..., Said], tmp_path: Path) -> None:
    limit = 300_000  # a checkpoint is larger, all else is smaller
    said = program(*TINY, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert said.code == 1
    assert "Traceback" not in said.err
    assert "checkpoint" in said.err.splitlines()[-1]
    assert not list((tmp_path / "runs").glob("*/checkpoints/*.pt"))


@pytest.mark.parametrize("pages", [1, 2, 3])
def test_a_disk_without_room_leaves_nothing_half_written(
    pages: int, program: Callable[..., Said], tmp_path: Path
) -> None:
    """The configuration, run.json or the record of the submission is the first that finds no room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    size = f"size={pages * 4}k"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", disk], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        said = program(*TINY, "--runs-dir", disk)
        left = list(disk.iterdir())
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
    assert said.code == 1
    assert said.err.splitlines()[-1].startswith("error: ")
    assert "No space left on device" in said.err.splitlines()[-1]
    assert "Traceback" not in said.err
    assert left == []


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
