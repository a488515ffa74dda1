"""Which run, and which of its checkpoints, is meant."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import Said

from segctl import checkpoints
from segctl.errors import CheckpointError, RunError
from segctl.runs import store
from segctl.runs.run import Run
from segctl.submit import trained_run


def _run(folder: Path, created: float, *, checkpoint: bool = True, **record: str) -> Run:
    content = {"kind": "train", "model": "fcn32s", "backbone": "vgg16", "dataset": "pascal_voc", **record}
    run = store.create("model: fcn32s\n", {**content, "created": created}, folder)
    if checkpoint:
        _checkpoint(run.checkpoints / "step-00000001.pt")
    return run


def _checkpoint(path: Path, content: bytes = b"weights" * 100) -> Path:
    """What torch writes is a zip archive; that is all that is looked at before a job is submitted."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", content)
    return path


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(content)


def test_the_newest_trained_run_that_matches_is_found(tmp_path: Path) -> None:
    old = _run(tmp_path, 1e9)
    new = _run(tmp_path, 1e9 + 100)
    other_backbone = _run(tmp_path, 1e9 + 200, backbone="vgg16_bn")
    _run(tmp_path, 1e9 + 300, checkpoint=False)
    _run(tmp_path, 1e9 + 400, kind="eval")
    qualified = _run(tmp_path, 1e9 + 500, model="acme:fcn32s", dataset="camvid")
    wanted = {"model": "fcn32s", "backbone": "vgg16", "dataset": "pascal_voc"}
    assert trained_run(None, wanted, tmp_path) == new
    assert trained_run(None, {"backbone": "vgg16_bn"}, tmp_path) == other_backbone
    assert trained_run(None, {"model": "fcn32s", "dataset": "camvid"}, tmp_path) == qualified
    assert trained_run(None, {}, tmp_path) == qualified
    assert trained_run(old.id, {}, tmp_path) == old


@pytest.mark.parametrize(
    ("reference", "match", "words"),
    [
        (None, {"model": "enet"}, "no training run of model enet"),
        (None, {"model": "fcn32s", "dataset": "camvid"}, "model fcn32s, dataset camvid .* has a checkpoint yet"),
        ("evaluation", {}, "is itself an evaluation, of that-run"),
        ("evaluation", {"model": "fcn32s"}, "Both a run .* and --model"),
    ],
)
def test_why_no_run_is_found(reference: str | None, match: dict[str, str], words: str, tmp_path: Path) -> None:
    _run(tmp_path, 1e9, dataset="camvid", checkpoint=False)
    _run(tmp_path, 1e9, kind="eval", name="evaluation", of="that-run")
    with pytest.raises(RunError, match=words):
        trained_run(reference, match, tmp_path)


def test_best_last_or_a_file(tmp_path: Path) -> None:
    run = _run(tmp_path, 1e9)
    first = run.checkpoints / "step-00000001.pt"
    path, notices = checkpoints.choose(run, "best")
    assert path == first
    assert "has not been evaluated" in notices[0]
    second = _checkpoint(run.checkpoints / "step-00000020.pt")
    best = _checkpoint(run.checkpoints / "best.pt")
    assert checkpoints.choose(run, "best") == (best, ())
    assert checkpoints.choose(run, "last") == (second, ())
    assert checkpoints.choose(run, str(first)) == (first, ())


def test_a_damaged_checkpoint_is_passed_over_or_refused(tmp_path: Path) -> None:
    run = _run(tmp_path, 1e9)
    first = run.checkpoints / "step-00000001.pt"
    second = _checkpoint(run.checkpoints / "step-00000020.pt")
    _damage(second)
    path, notices = checkpoints.choose(run, "last")
    assert path == first
    assert "step-00000020.pt is damaged" in notices[0]
    with pytest.raises(CheckpointError, match=r"step-00000020\.pt is damaged"):
        checkpoints.choose(run, str(second))
    best = _checkpoint(run.checkpoints / "best.pt")
    _damage(best)
    with pytest.raises(CheckpointError, match=r"best\.pt is damaged"):
        checkpoints.choose(run, "best")
    _damage(first)
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoints.choose(run, "last")


def test_a_run_without_checkpoints_says_when_it_gets_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        checkpoints.choose(_run(tmp_path, 1e9, checkpoint=False), "last")


def test_status_lists_what_programs_need(segctl: Callable[..., Said], tmp_path: Path) -> None:
    run = _run(Path(os.environ["SEGCTL_RUNS"]), 1e9, name="mine")
    (found,) = json.loads(segctl("status", "mine", "--json").out)
    assert found["id"] == run.id
    assert found["state"] == "LOST"  # it was never submitted
    assert {"backend", "model", "dataset", "epoch", "step", "miou", "best_miou", "why"} <= set(found)
    table = segctl("status").out.splitlines()
    assert table[1].split()[:2] == [run.id, "LOST"]
