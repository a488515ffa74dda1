"""train.compile with the real compiler: the same training as without, which goes on where it was interrupted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from ranks import finish, make_run, start, wait_for_step

from segctl.runs.files import read_json
from segctl.runs.metrics import read as read_metrics
from segctl.runs.run import Run
from segctl_jobs import checkpoint

# Without dropout, whose draws the compiler makes in another way.
MODEL = ("model.name=unet", "model.width=8", "model.dropout=0")
# Adam divides by the size of the gradient, and so would make rounding large.
OPTIMIZER = ("optimizer.name=sgd", "optimizer.lr=0.01")
SETTINGS = (*MODEL, *OPTIMIZER, "train.steps=12", "train.eval_every=2", "train.sync_bn=true")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("no_rank_left_running"),
    pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="torch.compile needs a C++ compiler"),
]


def losses(run: Run) -> list[float]:
    return [record["loss"] for record in read_metrics(run) if record["event"] == "train"]


def test_it_is_the_training_that_it_would_be_without(tmp_path: Path, paced: str) -> None:
    """On two ranks with SyncBN, interrupted once."""
    plain = make_run(tmp_path / "plain", *SETTINGS)
    compiled = make_run(tmp_path / "compiled", *SETTINGS, "train.compile=true", "dataset.name=paced_shapes")
    finish(start(plain, size=2), plain)
    processes = start(compiled, size=2, PYTHONPATH=paced, TEST_PACE="0.3")  # eleven seconds for all of it
    wait_for_step(2, processes, compiled)
    for process in processes:
        process.terminate()
    assert finish(processes, compiled) == [75, 75]
    finish(start(compiled, 2, size=2, PYTHONPATH=paced), compiled)

    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-3)
    one, other = (checkpoint.newest(run.checkpoints) for run in (plain, compiled))
    assert one is not None
    assert other is not None
    assert one["model"].keys() == other["model"].keys()
    assert other["miou"] == pytest.approx(one["miou"], abs=0.02)


def test_without_a_compiler_it_says_what_to_do(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", *SETTINGS, "train.compile=true")
    (process,) = start(run, CXX="/nowhere/g++", TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "cache"))
    assert process.wait(timeout=300) == 1
    told = read_json(run.error_file(0)) or {}
    assert "Model unet cannot be compiled here: " in told["message"]
    assert f"segctl train {run.config_file} --set train.compile=false" in told["hint"]
