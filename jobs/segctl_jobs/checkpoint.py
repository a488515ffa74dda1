"""Checkpoints: written beside and renamed, checked before use, read without running code.

A checkpoint is a file of `torch.save`, a zip archive whose every record carries a CRC-32; `read` verifies all of
them, so a file that was cut off or damaged on disk is told from a good one. ``step-00001200.pt`` holds everything a
training needs to go on; ``best.pt`` and ``epoch-0010.pt`` are further names (hard links) of such files.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segctl.errors import CheckpointError
from segctl.runs.checkpoint_file import verify
from segctl.runs.fence import SupersededError
from segctl.runs.files import replacing

log = logging.getLogger(__name__)

FORMAT = 1
KEPT = 2  # the newest ones; the second is there for the day the first turns out damaged


def to_host(value: Any) -> Any:
    """A deep copy of nested dicts, lists and tensors, on the CPU; what training does next cannot change it."""
    if isinstance(value, Tensor):
        copied = value.detach().to("cpu", copy=True)
        # A view would drag its whole storage into the file.
        return copied if copied.untyped_storage().nbytes() == copied.nbytes else copied.clone()
    if isinstance(value, Mapping):
        return {key: to_host(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_host(item) for item in value]
    return value


class CheckpointWriter:
    """Writes checkpoints from a thread of its own: `save` returns as soon as the state is copied to host memory.

    Args:
        folder: Made if need be.
        before: Called on that thread when a file is complete, just before it gets its name; what it raises prevents
            that.
    """

    def __init__(self, folder: Path, before: Callable[[], None] = lambda: None) -> None:
        self.folder = folder
        self._before = before
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def save(self, state: Mapping[str, Any], *, best: bool = False, keep_as: str | None = None) -> None:
        """Writes ``step-<step>.pt``; `best` and `keep_as` give the file further names.

        Raises:
            CheckpointError: The previous write failed.
        """
        copied = to_host({"format": FORMAT, **state})
        self.wait()
        self._thread = threading.Thread(target=self._write, args=(copied, best, keep_as), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Returns when the last checkpoint is safely on disk.

        Raises:
            CheckpointError: It could not be written.
            SupersededError: It was not to be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            if isinstance(failure, SupersededError):
                raise failure
            raise CheckpointError(
                f"The checkpoint could not be written to {self.folder}: {_reason(failure)}.",
                "Free some space or mend the file system, then `segctl resume` goes on from the checkpoint before it.",
            ) from failure

    def _write(self, state: dict[str, Any], best: bool, keep_as: str | None) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = step_file(self.folder, state["step"])
            with replacing(path) as file:
                torch.save(state, file)
                # Written out here, so that no time passes between that call and the rename.
                file.flush()
                os.fsync(file.fileno())
                self._before()
            if best:
                _link(path, self.folder / "best.pt")
            if keep_as is not None:
                _link(path, self.folder / keep_as)
            for old in step_files(self.folder)[KEPT:]:
                old.unlink(missing_ok=True)
        except BaseException as failure:  # reported by the next wait(), on the training's own thread
            self._failure = failure


def _reason(failure: BaseException) -> str:
    """The system's own words for it: torch raises an error about its zip file while the one of the disk is on its way.

    ``No space left on device`` rather than ``[enforce fail at inline_container.cc:671]``.
    """
    known: list[BaseException] = []
    error: BaseException | None = failure
    while error is not None and error not in known:
        if isinstance(error, OSError) and error.errno is not None:
            return os.strerror(error.errno)
        known.append(error)
        error = error.__cause__ or error.__context__
    return _first_line(failure).rstrip(".") or type(failure).__name__


def step_file(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.pt"


def step_files(folder: Path) -> list[Path]:
    """The checkpoints by step, newest first."""
    return sorted(folder.glob("step-*.pt"), reverse=True)


def _link(source: Path, target: Path) -> None:
    temporary = target.with_name(f".tmp-{target.name}")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)


def relink_best(folder: Path, state: Mapping[str, Any]) -> None:
    """Mends ``best.pt`` after a kill between writing the best checkpoint and naming it so."""
    if state["best_step"] == state["step"] and step_file(folder, state["step"]).exists():
        _link(step_file(folder, state["step"]), folder / "best.pt")


def read(path: Path) -> dict[str, Any]:
    """Reads a checkpoint, verifying every record; tensors are on the CPU.

    Raises:
        CheckpointError: There is no such file, or it is damaged, or segctl did not write it.
    """
    verify(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"The checkpoint {path} cannot be read ({type(error).__name__}: {_first_line(error)})."
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of this segctl (format {FORMAT}).")
    return state


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]


def newest(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that verifies, or None where there is none at all.

    Raises:
        CheckpointError: There are checkpoints, and every one is damaged.
    """
    files = step_files(folder)
    for path in files:
        try:
            return read(path)
        except CheckpointError as error:
            log.warning("%s Trying the one before it.", error)
    if files:
        raise CheckpointError(
            f"None of the {len(files)} checkpoints in {folder} can be read.", "Remove them to train from the beginning."
        )
    return None


def fit(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Loads weights into `model`.

    Raises:
        CheckpointError: The names or shapes of `weights` are not the model's.
    """
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[1:2] or [str(error)]
        raise CheckpointError(f"The weights in {path} are not this model's: {reason[0].strip()[:300]}") from error
