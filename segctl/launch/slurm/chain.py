"""One run after another: what the second waits for."""

from __future__ import annotations

from segctl.errors import RunError
from segctl.launch.backends import observe
from segctl.runs.run import Run
from segctl.runs.state import FINAL


def still_to_come(first: Run, backend: str) -> bool:
    """Whether a run that is to follow `first` on `backend` has to wait for it; False where it has completed.

    Raises:
        RunError: It has ended otherwise, so that the second would wait for ever; or another place carries it out.
    """
    ((records, derived),) = observe([first], max_age=0.0)
    if derived.state == "COMPLETED":
        return False
    if derived.state in FINAL:
        raise RunError(
            f"{first.id} is {derived.state}, so nothing can follow it: {derived.why}.",
            f"First: segctl resume {first.id}",
        )
    if records.backend != backend:
        raise RunError(
            f"{first.id} is carried out by {records.backend}; a run on {backend} cannot wait for it.",
            f"Use --on {records.backend}, or submit this one when that has completed.",
        )
    return True


def slurm_dependency(first: Run) -> str:
    """As sbatch takes it. It holds over requeues of the first: only its success lets the second start.

    Raises:
        RunError: The number of its job is not known (yet).
    """
    ((records, _),) = observe([first], max_age=0.0)
    job = records.attempt.get("job_id") or records.supervisor.get("job_id")
    if not job:
        raise RunError(f"{first.id} is still being submitted.", "Try again in a moment.")
    return f"afterok:{job}"
