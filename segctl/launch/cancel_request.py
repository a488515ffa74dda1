"""cancel.json: who asked for a run's end, left before the job itself is told."""

from __future__ import annotations

import os
import time

from segctl.errors import RunError
from segctl.runs.files import write_json
from segctl.runs.process import hostname, user_name
from segctl.runs.run import Run


def request(run: Run, attempt: int) -> None:
    """Records the request.

    Raises:
        RunError: The run is another user's.
    """
    content = {"attempt": attempt, "user": user_name(), "host": hostname(), "time": time.time()}
    try:
        write_json(run.cancel_file, content)
    except OSError as error:
        if not os.access(run.path, os.W_OK):
            raise RunError(f"{run.id} belongs to another user: {error.strerror}.", "Ask its owner.") from error
        # A full disk is one more reason to end the job; who asked is then not recorded.
