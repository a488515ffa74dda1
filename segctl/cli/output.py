"""Where words go: results to standard output, messages to standard error, in colour only on a terminal."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

UNBROKEN = 10_000  # columns where no terminal limits them


def results() -> Console:
    return _console(stderr=False)


def messages() -> Console:
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    width = None if terminal or "COLUMNS" in os.environ else UNBROKEN
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)


@contextmanager
def busy(doing: str) -> Iterator[Callable[[str], None]]:
    """Shows, on a terminal, that something takes its time; what is given back changes the words. See `reserved`."""
    with reserved():
        if not sys.stderr.isatty():
            yield lambda words: None
            return
        with messages().status(f"{doing} ...") as status:
            yield lambda words: status.update(f"{words} ...")


@contextmanager
def reserved() -> Iterator[None]:
    """Keeps standard output for results while plugins' code runs: what that prints goes to standard error.

    So does what the programs print that it starts, such as a compiler.
    """
    sys.stdout.flush()
    with redirect_stdout(sys.stderr), _descriptor_redirected():
        yield


@contextmanager
def _descriptor_redirected() -> Iterator[None]:
    try:
        kept = os.dup(1)
    except OSError:  # the caller has closed it
        yield
        return
    try:
        with suppress(OSError):
            os.dup2(2, 1)
        yield
    finally:
        with suppress(OSError, ValueError, AttributeError):
            sys.__stdout__.flush()  # type: ignore[union-attr]
        os.dup2(kept, 1)
        os.close(kept)


def note(message: str) -> None:
    """A message beside the result, such as what was chosen for the user."""
    typer.echo(message, err=True)


def document(value: Any) -> None:
    """The one JSON document of `--json`. What JSON has no number for (NaN) is null."""
    typer.echo(json.dumps(_plain(value), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    return str(value)


def seconds(value: float | None) -> str:
    """A duration for people: ``42s``, ``7m 05s``, ``3h 10m``, ``2d 04h``."""
    if value is None:
        return ""
    whole = max(round(value), 0)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole // 60 % 60:02d}m"
    return f"{whole // 86400}d {whole // 3600 % 24:02d}h"


def told(*sentences: str) -> str:
    """Sentences one after another, each with its full stop."""
    return " ".join(each if each.endswith((".", "?", "!")) else f"{each}." for each in sentences if each)


def short(value: float) -> str:
    """With one decimal, where it says something: ``3.2``, ``50``; what is less than that, with a digit: ``0.04``."""
    return f"{value:.1g}" if 0 < value < 0.1 else f"{value:.1f}".removesuffix(".0")


def percent(value: float | None) -> str:
    """A share of one as mIoU is usually quoted: ``67.3``."""
    return "" if value is None else f"{100 * value:.1f}"
