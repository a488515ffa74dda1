"""What `--model.weights` names becomes a file that stays: a path made absolute, or ``run:RUN``, a run's checkpoint."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from segctl import checkpoints
from segctl.config.schema import Config
from segctl.plain_data import absolute
from segctl.runs.run import Run

__all__ = ["keep", "named", "settle"]

OPTION, PREFIX = "weights", "run:"


def settle(config: Config, find: Callable[[str], Run]) -> tuple[Config, Path | None, tuple[str, ...]]:
    """`config` with a path for ``model.weights``, the run's checkpoint that it is, and what the user should know.

    Args:
        find: The trained run that a reference means.

    Raises:
        RunError: There is no such run.
        CheckpointError: It has no checkpoint yet.
    """
    text = config.model.options.get(OPTION)
    if not isinstance(text, str):
        return config, None, ()
    if not text.startswith(PREFIX):
        # A plugin may give its option of that name another meaning than that of a file.
        path = absolute(text)
        return (named(config, Path(path)) if os.path.exists(path) else config), None, ()
    run = find(text.removeprefix(PREFIX))
    checkpoint, notices = checkpoints.choose(run)
    told = f"The model starts from {checkpoint.name} of {run.id}."
    return named(config, checkpoint), checkpoint, (told, *notices)


def named(config: Config, weights: Path) -> Config:
    """`config` whose model starts from `weights`."""
    model = config.model.model_copy(update={"options": {**config.model.options, OPTION: str(weights)}})
    return config.model_copy(update={"model": model})


def keep(checkpoint: Path, run: Run) -> None:
    """Gives `run` the checkpoint that it starts from under a name of its own: the other run may replace or lose it.

    Raises:
        OSError: It lies on another file system, so that it has to be copied, and there is no room.
    """
    try:
        os.link(checkpoint, run.initial_weights)
    except OSError:
        shutil.copyfile(checkpoint, run.initial_weights)
