"""A short training on the test cluster: sent there, disturbed, and compared with one that was left alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

SEGCTL = str(Path(sys.executable).with_name("segctl"))
FINAL = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "LOST")
STEPS = 60
SMALL = [
    *("--model", "enet", "--dataset", "shapes", "--steps", str(STEPS), "--batch-size", "8", "--lr", "0.01"),
    *("--set", "augment.crop=48", "--set", "train.eval_every=0", "--set", "train.checkpoint_every=5"),
    *("--set", "train.log_every=1", "--set", "dataset.eval_samples=8", "--set", "train.workers=0"),
]


def segctl(*argv: object, cwd: Path | None = None, check: bool = True, seconds: float = 120) -> str:
    """Standard output of a command of ours, run in a process of its own."""
    words = [SEGCTL, *map(str, argv)]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False)
    if check:
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


def statuses(what: object) -> list[dict[str, Any]]:
    """What `segctl status` says of a run or a sweep; where slurmctld is too busy to answer in time, said once more."""
    deadline = time.monotonic() + 30
    while True:
        found: list[dict[str, Any]] = json.loads(segctl("status", what, "--json"))
        if all(each["state"] != "UNKNOWN" for each in found) or time.monotonic() > deadline:
            return found
        time.sleep(1.0)


class Training:
    """A run, as its user sees it: by its files and by `segctl status`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def submit(cls, *argv: object) -> Training:
        """Sends a small training, with the given flags of `segctl train` behind the usual ones."""
        document = json.loads(segctl("train", *SMALL, "--detach", "--json", *argv))
        return cls(Path(document["path"]))

    def json(self, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads((self.path / name).read_text()))
        except (OSError, ValueError):
            return {}

    @property
    def job(self) -> str:
        return str(self.json("submission.json")["attempts"][-1]["job_id"])

    def status(self) -> dict[str, Any]:
        return statuses(self.path)[0]

    def step(self) -> int:
        return int(self.json("status.json").get("step") or 0)

    def restart(self) -> int:
        return int(self.json("supervisor.json").get("restart", 0))

    def wait_until(self, what: Callable[[], object], seconds: float = 120, why: str = "") -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, f"{why or what}: {self.story()}"
            time.sleep(0.2)

    def wait_for_step(self, step: int, *, restart: int = 0, seconds: float = 120) -> None:
        """Until so many steps are done, in the given restart or a later one."""
        self.wait_until(lambda: self.restart() >= restart and self._fresh_step() >= step, seconds, f"step {step}")

    def _fresh_step(self) -> int:
        return self.step() if self.json("status.json").get("restart") == self.restart() else 0

    def wait_for_end(self, seconds: float = 270) -> dict[str, Any]:
        """The status at its end; tells all that is known of a run that comes to none."""
        deadline = time.monotonic() + seconds
        while (status := self.status())["state"] not in FINAL:
            assert time.monotonic() < deadline, self.story()
            time.sleep(1.0)
        return status

    def weights(self, steps: int) -> Mapping[str, torch.Tensor]:
        newest = max((self.path / "checkpoints").glob("step-*.pt"))
        state = torch.load(newest, map_location="cpu", weights_only=True)
        assert state["step"] == steps
        return dict(state["model"])

    def losses(self) -> dict[int, float]:
        """The loss of every step, as the public reader of a run's figures gives it."""
        from segctl.runs import metrics
        from segctl.runs.run import Run

        records = [record for record in metrics.read(Run(self.path)) if record["event"] == "train"]
        losses = {record["step"]: record["loss"] for record in records}
        assert len(losses) == len(records), "a step is counted twice"
        return losses

    def story(self) -> str:
        """All that the run has to say, for a test that fails."""
        texts = [json.dumps(self.json(name), indent=1) for name in ("supervisor.json", "status.json")]
        logs = sorted((self.path / "logs").glob("*.log"))
        texts += [f"== {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in logs]
        queue = subprocess.run(["squeue", "--states=all"], capture_output=True, text=True, check=False).stdout
        return "\n".join([*texts, queue])


def same_training(one: Training, other: Training, steps: int = STEPS) -> None:
    """Both have the same weights and the same losses, to the last bit."""
    left, right = one.weights(steps), other.weights(steps)
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []
    assert one.losses() == other.losses()
    assert sorted(one.losses()) == list(range(1, steps + 1))
