"""Where a command may write what the user names: not among the files that a run keeps for itself."""

from __future__ import annotations

from pathlib import Path

from segctl.errors import RunError
from segctl.runs.run import Run
from segctl.runs.store import is_run

__all__ = ["refuse_in_a_run"]


def refuse_in_a_run(out: Path) -> None:
    """Checks that writing `out`, a file or a folder, replaces nothing of a run: only its ``exports/`` is the user's.

    Raises:
        RunError: `out` is a run's folder or lies in one, and not in its ``exports/``.
    """
    place = out.expanduser().resolve()
    run = next((Run(folder) for folder in (place, *place.parents) if is_run(folder)), None)
    if run is not None and run.exports not in place.parents:
        raise RunError(
            f"{out} is in the folder of run {run.id}, which keeps its own files there.",
            f"With -o, name a place in {run.exports}, or one outside of the run.",
        )
