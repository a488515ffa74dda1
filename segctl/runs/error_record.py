"""What a failing rank leaves behind: errors/rankN.json."""

from __future__ import annotations

import time
import traceback

from segctl.errors import SegctlError
from segctl.runs.attempt import this
from segctl.runs.files import write_json
from segctl.runs.process import hostname
from segctl.runs.run import Run


def write(run: Run, error: BaseException, *, rank: int) -> None:
    """Records why a rank failed.

    Raises:
        OSError: The record cannot be written.
    """
    expected = isinstance(error, SegctlError)
    content = {
        **this().as_record(),
        "rank": rank,
        "host": hostname(),
        "type": type(error).__name__,
        "message": error.message if isinstance(error, SegctlError) else str(error),
        "hint": error.hint if isinstance(error, SegctlError) else "",
        "traceback": "".join(traceback.format_exception(type(error), error, error.__traceback__)),
        "time": time.time(),
        "user_error": expected,
    }
    run.errors.mkdir(exist_ok=True)
    write_json(run.error_file(rank), content)
