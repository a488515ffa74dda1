"""Every error that segctl raises on purpose.

    SegctlError                 a user's mistake or a condition of the machine: one sentence, exit code 1, no traceback
    ├── ConfigError             a recipe, flag or option that is not acceptable
    ├── PluginError             a plugin that cannot be found, imported, told apart or that breaks the contract
    ├── DataError               a data set that is missing, incomplete or holds values it must not
    ├── DownloadError           an archive that cannot be fetched, is not what was published, or cannot be unpacked
    ├── RunError                a run that cannot be found, told apart or that is in the wrong state for the request
    ├── CheckpointError         a checkpoint that is missing, damaged or of another model
    ├── WeightsError            pretrained weights that cannot be had or do not fit
    ├── ExportError             a model that cannot be exported, or whose export does not give the same
    ├── LaunchError             a job that could not be started
    ├── DeviceMemoryError       the memory of a GPU did not suffice
    ├── DiskFullError           a disk without room, or a quota that is used up
    └── NonFiniteLossError      training stopped because the loss or its gradient was NaN or infinite

Anything else that escapes is a bug in segctl (or in a plugin) and is shown with its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class SegctlError(Exception):
    """Something the user can mend.

    Args:
        message: What is wrong and where, in one sentence.
        hint: The way out, in one sentence; shown after the message.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    def __reduce__(self) -> tuple[type[SegctlError], tuple[str, str]]:
        return type(self), (self.message, self.hint)


class ConfigError(SegctlError):
    pass


class PluginError(SegctlError):
    pass


class DataError(SegctlError):
    pass


class DownloadError(SegctlError):
    """Of `segctl.download` itself it has `results`: what became of each data set."""

    results: tuple[Any, ...] = ()


class RunError(SegctlError):
    pass


class CheckpointError(SegctlError):
    pass


class WeightsError(SegctlError):
    pass


class ExportError(SegctlError):
    pass


class LaunchError(SegctlError):
    pass


class DeviceMemoryError(SegctlError):
    pass


class DiskFullError(SegctlError):
    pass


class NonFiniteLossError(SegctlError):
    pass


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"Did you mean 'epochs'?"`` for the nearest of `known`, or an empty string when nothing is near."""
    near = get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f"Did you mean {near[0]!r}?" if near else ""


def listing(words: Iterable[str]) -> str:
    """``"a, b and c"``, for messages that say what is allowed."""
    items = list(words)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "none"


def why_not_weights(head: bytes, error: Exception) -> str:
    """What is wrong with a file that `torch.load` refuses with `error`, by its first 64 bytes."""
    if head.startswith((b"PK", b"\x80")):  # a zip archive, or a pickle of before torch 1.6
        return f"it is damaged, or holds more than tensors ({type(error).__name__})"
    if not head:
        return "it is empty"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "it is a web page, so something else answered the download"
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, and 'git lfs pull' fetches the file itself"
    if head[4:9] == b"\0\0\0\0{":  # the length of a header, and the header in JSON
        return "it looks like safetensors, which is known by the ending .safetensors"
    return "it is not a file of torch.save"
