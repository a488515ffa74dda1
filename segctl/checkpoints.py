"""Which file is meant by "the checkpoint of this run"; a damaged one is found here, not only when the job starts."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from segctl.errors import CheckpointError
from segctl.runs.checkpoint_file import verify
from segctl.runs.run import Run


def choose(run: Run, which: str = "best") -> tuple[Path, tuple[str, ...]]:
    """The checkpoint of `run` that is meant, and what the user should know about the choice.

    Args:
        run: A training run.
        which: ``best`` (by mIoU; the last one while there was no evaluation yet), ``last``, or the path of a file.

    Raises:
        CheckpointError: There is none, or the one that was named is damaged.
    """
    best = run.checkpoints / "best.pt"
    if which == "best" and best.exists():
        verify(best, _OTHERS)
        return best.resolve(), ()
    if which in ("best", "last"):
        path, notices = _last(run)
        no_best = f"{run.id} has not been evaluated yet, so there is no best checkpoint; {path.name} is used."
        return path, (no_best, *notices) if which == "best" else notices
    path = Path(which)
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {which!r}.", "Give best, last or the path of a checkpoint file.")
    verify(path, _OTHERS)
    return path.resolve(), ()


def exists(run: Run) -> bool:
    return any(run.checkpoints.glob("*.pt"))


def hold(path: Path, run: Run) -> None:
    """Gives `run`, an evaluation, its own name for a checkpoint: the training may replace or remove it before the turn
    of the evaluation comes. Nothing is copied; on another file system the checkpoint itself is read."""
    with contextlib.suppress(OSError):
        os.link(path, run.held_checkpoint)


def _last(run: Run) -> tuple[Path, tuple[str, ...]]:
    """The newest one that is whole, as resuming does it too."""
    paths = sorted(run.checkpoints.glob("step-*.pt"), reverse=True)
    damaged: list[CheckpointError] = []
    for path in paths:
        try:
            verify(path, _OTHERS)
        except CheckpointError as error:
            damaged.append(error)
            continue
        return path.resolve(), tuple(f"{error.message} {path.name} is used instead." for error in damaged)
    if damaged:
        raise damaged[0]
    raise CheckpointError(
        f"{run.id} has no checkpoint yet.", "It gets its first one at the first evaluation, or when it is stopped."
    )


_OTHERS = "Choose another one with --checkpoint: best, last or a file in the run's folder checkpoints/."
