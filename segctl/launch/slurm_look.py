"""What SLURM says of runs: `interpret` decides, from a run's own files and SLURM's answer; `look` asks."""

from __future__ import annotations

from collections.abc import Sequence

from segctl.launch import sightings
from segctl.launch.scheduler import Job
from segctl.launch.sightings import Answer, Wanted
from segctl.runs.records import Records
from segctl.runs.state import Sight

FRESH = 2.0  # seconds that an answer may be old where somebody asked just now
HANDOVER_SECONDS = 60.0  # how long the submitting command may take from recording an attempt to its job
_ENDS = ("COMPLETED", "FAILED", "CANCELLED")


def look(records: Sequence[Records], now: float, max_age: float = FRESH) -> list[Sight]:
    """What SLURM and the runs' own files say of each run's newest attempt.

    Args:
        records: Runs that were submitted to SLURM.
        now: Unix seconds.
        max_age: Seconds that SLURM's answer may be old.
    """
    asked = [wanted(one) for one in records if not _ended(one) and one.attempt]
    answer = sightings.ask(asked, max_age) if asked else Answer()
    return [interpret(one, answer, now) for one in records]


def wanted(records: Records) -> Wanted:
    """How SLURM knows the newest attempt."""
    attempt = records.attempt
    return Wanted(
        id=str(attempt.get("job_id") or ""),
        name=str(attempt.get("job_name") or ""),
        user=str(attempt.get("user") or ""),
        since=float(attempt.get("submitted") or 0.0),
    )


def interpret(records: Records, answer: Answer, now: float) -> Sight:
    """What the newest attempt is doing; a pure function."""
    said = records.supervisor
    if _ended(records):
        return Sight(said["state"], str(said.get("reason", "")), "supervisor.json")
    job = answer.job(wanted(records))
    if job is None:
        return _unknown(records, answer, now)
    if answer.in_queue(job) or not job.live:
        return _by_state(records, job)
    if answer.failure:
        return Sight("UNKNOWN", f"{answer.failure}; last seen {job.state} {now - job.seen:.0f} s ago", job.source)
    return Sight("UNKNOWN", f"SLURM does not know job {job.id} any more; last seen {job.state}", job.source)


def _ended(records: Records) -> bool:
    return records.supervisor.get("state") in _ENDS


def _unknown(records: Records, answer: Answer, now: float) -> Sight:
    since = float(records.attempt.get("submitted") or records.run.get("created") or 0)
    if not records.attempt.get("job_id"):
        if now - since < HANDOVER_SECONDS:
            return Sight("PENDING", "is being submitted", "submission.json")
        if not answer.failure and answer.answered > since:
            return Sight("LOST", "the submitting command ended before it submitted the job", "squeue")
    return Sight("UNKNOWN", answer.failure or "SLURM does not know it", "squeue")


def _by_state(records: Records, job: Job) -> Sight:
    if job.state == "PENDING" and (job.restarts or records.supervisor):
        return Sight("REQUEUED", job.reason, job.source)
    if job.state in ("PENDING", "CONFIGURING"):
        return Sight("PENDING", job.reason, job.source)
    if job.state in ("RUNNING", "COMPLETING"):
        return Sight("RUNNING", "", job.source)
    if job.live:
        return Sight("REQUEUED", job.state, job.source)
    if job.state in ("COMPLETED", "CANCELLED", "TIMEOUT"):
        return Sight(job.state, job.reason, job.source)  # type: ignore[arg-type]
    return Sight("FAILED", job.reason or job.state, job.source)
