"""A run is a directory; this names its files and who writes each. README.md in this folder says what is in them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Reference: TypeAlias = "str | os.PathLike[str]"  # a run's id, a unique start of it, its name, its path, or a Run


@dataclass(frozen=True)
class Run:
    path: Path

    def __fspath__(self) -> str:
        """Where a run is asked for, a `Run` may be given."""
        return str(self.path)

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def run_file(self) -> Path:
        """Written once, before submission: kind, versions, argv, git state, plugin distributions."""
        return self.path / "run.json"

    @property
    def config_file(self) -> Path:
        """Written once, before submission: the resolved configuration."""
        return self.path / "config.yaml"

    @property
    def submission_file(self) -> Path:
        """Written by the submitting command: backend, and for each attempt what identifies its job."""
        return self.path / "submission.json"

    @property
    def supervisor_file(self) -> Path:
        """Written by the local supervisor, which plays the scheduler's part on this machine."""
        return self.path / "supervisor.json"

    @property
    def current_file(self) -> Path:
        """Written by each start of the job before anything else: which attempt and restart may write. See `fence`."""
        return self.path / "current.json"

    @property
    def cancel_file(self) -> Path:
        """Written by `segctl cancel`: who asked, when. An earlier attempt's request does not concern a later one."""
        return self.path / "cancel.json"

    @property
    def status_file(self) -> Path:
        """Written by rank 0 of the job: phase, step, epoch, figures, heartbeat."""
        return self.path / "status.json"

    @property
    def metrics_file(self) -> Path:
        """Appended to by rank 0 of the job."""
        return self.path / "metrics.jsonl"

    @property
    def eval_file(self) -> Path:
        """Written by rank 0 of an evaluation, at its end."""
        return self.path / "eval.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def held_checkpoint(self) -> Path:
        """An evaluation's own name (hard link) for the checkpoint that it is of; absent across file systems."""
        return self.path / "checkpoint.pt"

    @property
    def initial_weights(self) -> Path:
        """A training's own name for the checkpoint of another run that it starts from (`--model.weights run:RUN`)."""
        return self.path / "initial_weights.pt"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions"

    @property
    def predictions_zip(self) -> Path:
        """The predictions as the benchmark's server wants them."""
        return self.path / "predictions.zip"

    @property
    def exports(self) -> Path:
        """Written by `segctl export`, where no other file is named."""
        return self.path / "exports"

    @property
    def changes(self) -> Path:
        """Written once, before submission: a patch for each repository whose files differ from its commit."""
        return self.path / "changes"

    @property
    def code(self) -> Path:
        """Written once, before submission, with `--snapshot`: the code that the job runs."""
        return self.path / "code"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def supervisor_log(self) -> Path:
        """What the local supervisor has to say; the place to look when no rank was started."""
        return self.logs / "supervisor.log"

    @property
    def lock_file(self) -> Path:
        """Locked (flock) by the job as long as it lives: a run has one job at a time."""
        return self.path / "job.lock"

    @property
    def submitit(self) -> Path:
        """submitit's own folder: the pickled call, and each rank's word that it came back."""
        return self.path / "submitit"

    @property
    def errors(self) -> Path:
        return self.path / "errors"

    def error_file(self, rank: int) -> Path:
        """Written by that rank when it fails."""
        return self.errors / f"rank{rank}.json"

    @property
    def stacks(self) -> Path:
        """Where ranks that hang leave the stacks of their threads."""
        return self.path / "stacks"

    def log_file(self, attempt: int, rank: int) -> Path:
        """Standard output and standard error of one rank in one attempt."""
        return self.logs / f"attempt{attempt}-rank{rank}.log"
