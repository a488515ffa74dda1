"""Real jobs of plugins that are installed editable, in both ways there are, and edited while the jobs wait."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from environment import Environment
from projects import GIT, git, write

from segctl.cancel import cancel
from segctl.launch.local.queue import Wish, enter
from segctl.runs.run import Run
from segctl.status import of

pytestmark = pytest.mark.slow

NETS = {
    "pyproject.toml": """
        [build-system]
        requires = ["hatchling"]
        build-backend = "hatchling.build"
        [project]
        name = "segctl-test-nets"
        version = "1.0"
        [project.entry-points."segctl.models"]
        frozen_net = "segctl_test_nets.nets:frozen_net"
        [tool.hatch.build.targets.wheel]
        packages = ["segctl_test_nets"]
    """,
    ".gitignore": "_version.py\n",
    # Python's own goes before it, but would not if it came to stand in PYTHONPATH.
    "functools.py": "raise RuntimeError('not the functools of Python')",
    "configs/words.txt": "old data",
    "segctl_test_nets/__init__.py": "",
    "segctl_test_nets/_version.py": "VERSION = 'old version'",
    "segctl_test_nets/nets.py": """
        import logging
        from pathlib import Path
        from torch import nn
        from segctl_test_helper import HELP
        from segctl_test_nets._version import VERSION

        WORDS = (Path(__file__).parents[1] / "configs" / "words.txt").read_text()

        def frozen_net(num_classes: int) -> nn.Module:
            logging.getLogger(__name__).warning("NET old code, %s, %s, %s, %s", WORDS, VERSION, HELP, __file__)
            return nn.Conv2d(3, num_classes, 1)
    """,
}
# This layout setuptools installs with a finder of its own, not as a folder on the import path.
LOSS = {
    "pyproject.toml": """
        [build-system]
        requires = ["setuptools"]
        build-backend = "setuptools.build_meta"
        [project]
        name = "segctl-test-loss"
        version = "1.0"
        [project.entry-points."segctl.losses"]
        frozen_loss = "segctl_test_loss:FrozenLoss"
    """,
    "segctl_test_loss/__init__.py": """
        import logging
        from torch.nn.functional import cross_entropy

        class FrozenLoss:
            def __init__(self, *, ignore_index: int) -> None:
                logging.getLogger(__name__).warning("LOSS old code, %s", __file__)
                self.ignore_index = ignore_index

            def __call__(self, outputs, target):
                return cross_entropy(outputs, target, ignore_index=self.ignore_index)
    """,
}
SUBMIT = """
import json, sys
import segctl
given = json.load(sys.stdin)
found = [str((segctl.resume(run) if run else segctl.train(flags=flags)).run.path) for run, flags in given]
print(json.dumps(found))
"""
FLAGS = {
    "model": "frozen_net",
    "loss": "frozen_loss",
    "dataset": "shapes",
    "dataset.samples": 4,
    "dataset.eval_samples": 2,
    "train.steps": 1,
    "train.batch_size": 2,
    "train.workers": 0,
    "launch.gpus": 0,
}


class Lab:
    """A virtual environment with two plugins, and a folder of helpers in PYTHONPATH."""

    def __init__(self, folder: Path) -> None:
        self.nets, self.loss, self.helpers = (folder / name for name in ("nets", "loss", "helpers"))
        self.restore()
        for project in (self.nets, self.loss):
            git(project, "init", "-q")
            git(project, "add", ".")
            git(project, "commit", "-q", "-m", "first")
        own = Environment(folder / "venv")
        self.python = own.python
        own.pip("install", "--no-deps", "--no-build-isolation", "--no-index", "-e", self.nets, "-e", self.loss)
        assert list(own.site.glob("*_nets.pth")), "hatchling's way: a folder on the import path"
        assert list(own.site.glob("__editable__*finder.py")), "setuptools' way: a finder"

    def restore(self) -> None:
        import textwrap

        for folder, files in ((self.nets, NETS), (self.loss, LOSS)):
            write(folder, {name: textwrap.dedent(text) for name, text in files.items()})
        write(self.helpers, {"segctl_test_helper.py": "HELP = 'old help'\n"})

    def edit(self) -> None:
        for file in [*self.nets.rglob("*.*"), *self.loss.rglob("*.*"), *self.helpers.iterdir()]:
            if file.suffix in (".py", ".txt"):
                file.write_text(file.read_text().replace("old ", "new "))

    def submit(self, *wanted: tuple[Run | None, dict[str, Any]]) -> list[Run]:
        given = json.dumps([(run and str(run.path), {**FLAGS, **flags}) for run, flags in wanted])
        done = subprocess.run(
            [str(self.python), "-c", SUBMIT],
            input=given,
            env={**os.environ, **GIT, "PYTHONPATH": str(self.helpers)},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        return [Run(Path(path)) for path in json.loads(done.stdout)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def occupied(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The one CPU slot is taken until the ticket is closed."""
    monkeypatch.setenv("SEGCTL_CPU_SLOTS", "1")
    ticket = enter(Wish((), 1, "somebody"))
    assert ticket.try_start().start
    yield ticket
    with contextlib.suppress(OSError):  # closed already
        ticket.close()


def ended(run: Run) -> str:
    deadline = time.monotonic() + 200
    while of([run])[0].state not in ("COMPLETED", "FAILED", "CANCELLED", "LOST"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    (found,) = of([run])
    return f"{found.state} {found.why}".strip()


def said(run: Run, attempt: int = 1) -> str:
    return run.log_file(attempt, 0).read_text()


def test_edits_while_a_job_waits(lab: Lab, occupied: Any) -> None:
    frozen, again, as_it_is = lab.submit(
        (None, {"launch.snapshot": True}), (None, {"launch.snapshot": True}), (None, {})
    )
    assert {of([run])[0].state for run in (frozen, again, as_it_is)} == {"PENDING"}
    assert cancel(again.id, runs_dir=again.path.parent).state == "CANCELLED"
    record = json.loads(frozen.run_file.read_text())
    assert {"segctl_test_nets", "segctl_test_loss", "segctl_test_helper"} <= set(record["snapshot"]["modules"])
    lab.edit()
    occupied.close()

    assert [ended(frozen), ended(as_it_is)] == ["COMPLETED", "COMPLETED"]
    net = f"NET old code, old data, old version, old help, {frozen.code}/nets/segctl_test_nets/nets.py"
    assert net in said(frozen)
    assert f"LOSS old code, {frozen.code}/loss/segctl_test_loss/__init__.py" in said(frozen)
    assert "frozen when it was submitted" in said(frozen)
    assert "is not what it was" not in said(frozen)
    assert f"NET new code, new data, new version, new help, {lab.nets}/segctl_test_nets/nets.py" in said(as_it_is)
    assert f"LOSS new code, {lab.loss}/segctl_test_loss/__init__.py" in said(as_it_is)
    for project in (lab.nets, lab.loss):
        assert f"not what it was at submission: {project} has other uncommitted changes" in said(as_it_is)
    assert f"submission: the files of segctl_test_helper in {lab.helpers} have changed" in said(as_it_is)

    # And when it goes on later, from a working copy that is beyond use.
    (lab.nets / "segctl_test_nets/nets.py").write_text("not Python")
    lab.submit((again, {}))
    assert ended(again) == "COMPLETED"
    assert "NET old code, old data, old version, old help" in said(again, 2)
    lab.restore()
