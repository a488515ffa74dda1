"""Where a command may write what the user names: not among the files that a run keeps for itself."""

from __future__ import annotations

from pathlib import Path

from segctl.errors import RunError
from segctl.runs.files import read_json
from segctl.runs.run import Run

__all__ = ["refuse_in_a_run"]


def refuse_in_a_run(out: Path) -> None:
    """Checks that writing `out`, a file or a folder, replaces nothing of a run: only its ``exports/`` is the user's.

    Raises:
        RunError: `out` is a run's folder or lies in one, and not in its ``exports/``.
    """
    place = out.expanduser().resolve()
    around = (place, *place.parents)
    # Other programs write a run.json, too: one above all of a user's work must not bar it.
    run = next((Run(folder) for folder in around if "kind" in (read_json(folder / "run.json") or {})), None)
    if run is not None and run.exports not in around:
        raise RunError(
            f"{out} is in the folder of run {run.id}, which keeps its own files there.",
            f"With -o, name a place in {run.exports}, or one outside of the run.",
        )
