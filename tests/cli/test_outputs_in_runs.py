"""What a command is told to write goes nowhere among a run's own files, but into its exports/ or elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from programs import Said

from segctl.config.schema import Plugin
from segctl.registry import create_model
from segctl.runs import store
from segctl.runs.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with a checkpoint that must not change."""
    run = store.create("{}", {"kind": "train", "model": "enet", "dataset": "shapes"}, tmp_path / "runs")
    (run.checkpoints / "best.pt").write_bytes(b"weeks of work")
    return run


@pytest.fixture
def enet(tmp_path: Path) -> Path:
    torch.save(create_model(Plugin(name="enet"), 3).state_dict(), tmp_path / "enet.pth")
    return tmp_path / "enet.pth"


@pytest.mark.parametrize(
    ("command", "out"),
    [
        (("weights", "import", "{enet}", "--model", "enet"), "checkpoints/best.pt"),
        (("weights", "dunet-upsampling", "--dataset", "shapes"), "checkpoints/best.pt"),
        (("predict", "{run}", "{enet}"), "predictions"),
        (("predict", "{run}", "{enet}"), "."),
        (("data", "show", "shapes"), "predictions/shapes-0.png"),
    ],
)
def test_nothing_is_written_among_a_runs_files(
    command: tuple[str, ...], out: str, run: Run, enet: Path, segctl: Callable[..., Said]
) -> None:
    before = sorted(run.path.rglob("*"))
    said = segctl(*(word.format(run=run.path, enet=enet) for word in command), "-o", run.path / out)
    assert said.code == 1
    assert f"is in the folder of run {run.id}, which keeps its own files there." in said.err.replace("\n", " ")
    assert str(run.exports) in said.err.replace("\n", "")
    assert sorted(run.path.rglob("*")) == before
    assert (run.checkpoints / "best.pt").read_bytes() == b"weeks of work"


def test_a_link_to_a_runs_folder_is_that_folder(run: Run, enet: Path, segctl: Callable[..., Said]) -> None:
    link = enet.parent / "link"
    link.symlink_to(run.checkpoints)
    said = segctl("weights", "import", enet, "--model", "enet", "-o", link / "best.pt")
    assert said.code == 1
    assert (run.checkpoints / "best.pt").read_bytes() == b"weeks of work"


def test_exports_and_the_folder_of_the_runs_may_be_written(run: Run, enet: Path, segctl: Callable[..., Said]) -> None:
    run.exports.mkdir()
    for out in (run.exports / "enet.pt", run.path.parent / "enet.pt"):
        assert segctl("weights", "import", enet, "--model", "enet", "-o", out).code == 0
        assert out.is_file()


def test_a_run_json_of_another_program_bars_nothing(enet: Path, segctl: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"version": 1}')
    said = segctl("weights", "import", enet, "--model", "enet", "-o", tmp_path / "ours.pt")
    assert said.code == 0, said.err
