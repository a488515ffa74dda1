"""What a failing rank leaves behind: errors/rankN.json."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from typing import Any

from segctl.errors import SegctlError
from segctl.runs.attempt import this
from segctl.runs.fence import successor
from segctl.runs.files import write_json
from segctl.runs.process import hostname
from segctl.runs.run import Run

__all__ = ["put", "write"]


def write(run: Run, error: BaseException, *, rank: int) -> None:
    """Records why a rank failed.

    Raises:
        OSError: The record cannot be written.
    """
    expected = isinstance(error, SegctlError)
    number = next((each.errno for each in _chain(error) if isinstance(each, OSError) and each.errno), None)
    put(
        run,
        rank,
        type=type(error).__name__,
        message=error.message if isinstance(error, SegctlError) else str(error),
        hint=error.hint if isinstance(error, SegctlError) else "",
        traceback="".join(traceback.format_exception(type(error), error, error.__traceback__)),
        user_error=expected,
        **({"errno": number} if number is not None else {}),
    )


def put(run: Run, rank: int, **content: Any) -> None:
    """Writes a rank's record, with what all records have; nothing where a later start of the run has begun.

    Raises:
        OSError: It cannot be written.
    """
    if successor(run) is not None:
        return
    run.errors.mkdir(exist_ok=True)
    whose = {**this().as_record(), "rank": rank, "host": hostname()}
    write_json(run.error_file(rank), {**whose, "time": time.time(), **content})


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, what it was raised from or while handling, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
