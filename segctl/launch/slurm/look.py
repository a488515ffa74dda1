"""What SLURM and a run's own files say of its newest attempt: `interpret` decides, `look` asks.

A job's own last word goes first, then squeue, then sacct. That something is missing proves nothing: where nobody knows,
the state is UNKNOWN, with the age of what was seen last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from segctl.launch.slurm import sightings
from segctl.launch.slurm.scheduler import Job
from segctl.launch.slurm.sightings import Answer, Wanted
from segctl.launch.slurm.words import interrupted, waits
from segctl.runs.blame import signal_name
from segctl.runs.records import Records
from segctl.runs.state import Allocation, Sight, State, duration

HANDOVER_SECONDS = 60.0  # how long the submitting command may take from recording an attempt to its job's number
REQUEUE_SECONDS = 60.0  # a job that lost its node goes back to the queue so much later at most
OUTCOME_SECONDS = 30.0  # so long it may be unknown what became of a job that has left the queue
_ENDS = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")
_WAITING = frozenset(
    (
        *("PENDING", "CONFIGURING", "POWER_UP_NODE", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"),
        *("RESIZING", "RESV_DEL_HOLD"),
    )
)
_MAY_GO_ON = ("NODE_FAIL", "PREEMPTED")
_CANNOT_START = ("JobLaunchFailure", "RaisedSignal:53(Real-time_signal_19)")


def look(records: Sequence[Records], now: float, max_age: float) -> list[Sight]:
    """What SLURM and the runs' own files say of each run's newest attempt.

    Args:
        records: Runs that were submitted to SLURM.
        now: Unix seconds.
        max_age: Seconds that SLURM's answer may be old. It is asked only for runs that have not left a last word.
    """
    here = sightings.cluster_name()
    asked = [_wanted(one) for one in records if not _has_ended(one) and one.attempt and not _elsewhere(one, here)]
    answer = sightings.ask(asked, max_age) if asked else Answer()
    return [interpret(one, answer, now, here) for one in records]


def interpret(records: Records, answer: Answer, now: float, cluster: str = "") -> Sight:
    """What the newest attempt is doing; a pure function.

    Args:
        records: The run's files.
        answer: SLURM's.
        now: Unix seconds.
        cluster: Whose answer it is; empty: not known.
    """
    said = records.supervisor
    if _has_ended(records):
        own = Allocation(nodes=str(said.get("nodes") or ""), restart=records.restart)
        return Sight(said["state"], str(said.get("reason") or ""), "supervisor.json", allocation=own)
    if _elsewhere(records, cluster):
        there = records.attempt["cluster"]
        why = f"it was submitted to the cluster {there}, this machine belongs to {cluster}"
        return Sight("UNKNOWN", why, "submission.json", _where_to_look(records))
    job = answer.job(_wanted(records))
    sight = _of_job(records, job, answer, now) if job is not None else _of_none(records, answer, now)
    return replace(sight, allocation=_allocation(records, job, now)) if job is not None else sight


def told(records: Records, max_age: float) -> Job | None:
    """SLURM's own word on the newest attempt's job, for people; None where it has none."""
    wanted = _wanted(records)
    return sightings.ask([wanted], max_age).job(wanted)


def _wanted(records: Records) -> Wanted:
    """How SLURM knows the newest attempt."""
    attempt, said = records.attempt, records.supervisor
    return Wanted(
        id=str(attempt.get("job_id") or said.get("job_id") or ""),
        name=str(attempt.get("job_name") or ""),
        element=attempt.get("element"),
        user=str(attempt.get("user") or ""),
        since=float(attempt.get("submitted") or 0.0),
        unexplained=records.restart if said.get("state") != "REQUEUED" else None,
    )


def _has_ended(records: Records) -> bool:
    return records.supervisor.get("state") in _ENDS


def _elsewhere(records: Records, here: str) -> bool:
    there = records.attempt.get("cluster")
    return bool(here and there) and there != here


def _of_job(records: Records, job: Job, answer: Answer, now: float) -> Sight:
    """Of a job that SLURM has named, now or earlier."""
    if answer.in_queue(job) and job.live:
        return _in_queue(records, job)
    if not job.live:
        if answer.failure and job.state in _MAY_GO_ON:
            return _unseen(records, job, answer, now)
        return _ended(records, job, now)
    if answer.failure:
        return _unseen(records, job, answer, now)
    return _gone(records, job, answer, now)


def _of_none(records: Records, answer: Answer, now: float) -> Sight:
    """Of a job that SLURM has never named."""
    submitted = float(records.attempt.get("submitted") or records.run.get("created") or 0)
    rests_on = "submission.json" if records.attempt else "the missing submission.json"
    known = bool(_wanted(records).id)
    if not known and now - submitted < HANDOVER_SECONDS:
        return Sight("PENDING", "is being submitted", rests_on)
    if not records.attempt:
        return Sight("LOST", "the submitting command ended before it submitted the job", rests_on)
    if answer.failure:
        return _unseen(records, None, answer, now)
    if answer.answered < submitted or answer.answered < _moment(records.supervisor, "started"):
        if records.supervisor.get("state") == "RUNNING":
            return Sight("RUNNING", "", "supervisor.json")
        return Sight("PENDING", "was submitted a moment ago", rests_on)
    if not known:
        return Sight("LOST", "the submitting command ended before it submitted the job", "squeue")
    return _gone(records, None, answer, now)


def _in_queue(records: Records, job: Job) -> Sight:
    """Of a job that squeue has just named as waiting or running."""
    said, spoke = records.supervisor.get("state"), bool(records.supervisor)
    restarts = job.restarts if job.restarts is not None else records.restart + (said in ("REQUEUED", "STOPPED"))
    unheard = restarts > records.restart or not spoke  # the leader has not yet spoken in the start that squeue means
    why = _why_interrupted(records, job)
    if job.state in _WAITING:
        if said == "RUNNING" and not unheard and _moment(records.supervisor, "started") > job.seen:
            return Sight("RUNNING", "", "supervisor.json")
        words = "waits for its nodes to start" if job.state != "PENDING" else waits(job.reason, job.id)
        words = waits(job.reason or "held", job.id) if job.state in ("REQUEUE_HOLD", "SPECIAL_EXIT") else words
        if restarts or spoke:
            return Sight("REQUEUED", f"{why}; {words}", job.source)
        return Sight("PENDING", words, job.source)
    if job.state in ("SUSPENDED", "STOPPED"):
        return Sight("REQUEUED", "suspended by SLURM, in place", job.source)
    if said == "REQUEUED" and (not unheard or job.state == "COMPLETING"):
        return Sight("REQUEUED", f"{why}; is going back to the queue", job.source)
    if job.state == "COMPLETING":
        if unheard and spoke:
            return Sight("REQUEUED", f"{why}; its nodes are being cleared", job.source)
        return Sight("RUNNING", "stopping", job.source)
    if said == "STOPPED" and not unheard:
        return Sight("RUNNING", f"stopping: {records.supervisor.get('reason')}", job.source)
    return Sight("RUNNING", f"starting, {why}" if unheard and restarts else "", job.source)


def _why_interrupted(records: Records, job: Job) -> str:
    """Why its last start ended: in its own words, else in SLURM's."""
    if records.supervisor.get("state") == "REQUEUED":
        return str(records.supervisor.get("reason") or "requeued")
    return interrupted(job.interruption)


def _ended(records: Records, job: Job, now: float) -> Sight:
    """Of a job that SLURM says has ended, and that left no last word of its own."""
    since_end = now - (job.end or job.seen)
    if job.state in _MAY_GO_ON and since_end < REQUEUE_SECONDS and records.attempt.get("plan", {}).get("requeue", True):
        return Sight("REQUEUED", f"{interrupted(job.state)}; SLURM is clearing it away", job.source)
    state, why, hint = _end_in_words(records, job)
    return Sight(state, why, job.source, hint)


def _end_in_words(records: Records, job: Job) -> tuple[State, str, str]:
    """State, reason and way out."""
    never = not records.supervisor
    if job.state == "COMPLETED":
        return "LOST", "SLURM says that it completed, but it left no last word of its own", ""
    if job.state == "CANCELLED":
        return "CANCELLED", _who_cancelled(records, job, never), ""
    if job.state == "TIMEOUT":
        limit = f" of {duration(job.limit)}" if job.limit else ""
        return "TIMEOUT", f"reached its time limit{limit}", ""
    if job.state == "DEADLINE":
        return "TIMEOUT", "reached its deadline", ""
    if job.state == "PREEMPTED":
        return "CANCELLED", "preempted, and not sent back to the queue", ""
    if job.state in ("NODE_FAIL", "BOOT_FAIL"):
        what = "failed" if job.state == "NODE_FAIL" else "could not be started"
        return "FAILED", f"a node {what} ({job.nodes or 'SLURM does not say which'}), and it was not requeued", ""
    if job.state == "OUT_OF_MEMORY":
        return "FAILED", "it used more memory than SLURM allows it", "Ask for more: --slurm memory=..."
    if records.supervisor.get("state") == "STOPPED":
        return "CANCELLED", str(records.supervisor.get("reason") or "stopped by a signal"), ""
    if never and (job.reason in _CANNOT_START or job.exit_code == "0:53"):
        return (
            "FAILED",
            f"SLURM could not start it on {job.nodes or 'its node'}",
            "Most often the run's folder cannot be written there: use a --runs-dir that all nodes share.",
        )
    _, _, signum = job.exit_code.partition(":")
    if signum.isdigit() and int(signum):
        node = records.supervisor.get("host") or "its first node"
        return "FAILED", f"the process that led it on {node} was killed by {signal_name(int(signum))}", ""
    code = f", exit code {job.exit_code}" if job.exit_code else ""
    return "FAILED", f"it ended without a word ({job.state}{code})", ""


def _who_cancelled(records: Records, job: Job, never: bool) -> str:
    if job.reason == "DependencyNeverSatisfied":
        return "the job that it waited for did not succeed"
    when = "while it waited for its turn" if never else ""
    if records.cancel:  # the state itself says who
        return when
    return " ".join(part for part in ("cancelled", f"by {job.by} with scancel" if job.by else "", when) if part)


def _gone(records: Records, job: Job | None, answer: Answer, now: float) -> Sight:
    """Of a job that squeue does not know any more, and of whose end nobody tells: its own files may."""
    number = job.id if job is not None else _wanted(records).id
    said = records.supervisor.get("state")
    if records.cancel or records.status.get("phase") == "completed":
        return Sight("LOST", f"SLURM does not know job {number} any more", "squeue")  # its files say the rest
    if said == "STOPPED":
        return Sight("CANCELLED", str(records.supervisor.get("reason") or "SLURM ended it"), "supervisor.json, squeue")
    if said == "REQUEUED":
        return Sight("CANCELLED", "left the queue while it waited to go on", "supervisor.json, squeue")
    if said is None and job is not None and job.state == "PENDING" and not answer.accounting_failure:
        return Sight("CANCELLED", "left the queue before it started", "squeue, sacct")  # an element of an array
    if job is not None and job.source == "squeue" and now - job.seen < OUTCOME_SECONDS:
        why = "it has just left the queue; what became of it is not known yet"
        return Sight("UNKNOWN", why, f"squeue, {_age(now - job.seen)} ago")
    last = _last_seen(records, job, now)
    accounting = f" ({answer.accounting_failure})" if answer.accounting_failure else ""
    return Sight(
        "UNKNOWN",
        f"SLURM does not know job {number} any more{accounting}{f'; {last}' if last else ''}",
        "squeue",
        f"'segctl cancel {records.id}' settles that it has ended.",
    )


def _unseen(records: Records, job: Job | None, answer: Answer, now: float) -> Sight:
    """Of a job while squeue does not answer."""
    last = _last_seen(records, job, now)
    missing = answer.failure.startswith("there is no ")
    hint = _where_to_look(records) if missing else ""
    return Sight("UNKNOWN", f"{answer.failure}{f'; {last}' if last else ''}", "squeue", hint)


def _last_seen(records: Records, job: Job | None, now: float) -> str:
    heartbeat = _moment(records.status, "heartbeat")
    seen = f"last seen {job.state} {_age(now - job.seen)} ago" if job is not None else ""
    alive = f"last sign of life {_age(now - heartbeat)} ago" if heartbeat else ""
    return "; ".join(part for part in (seen, alive) if part)


def _where_to_look(records: Records) -> str:
    host = records.attempt.get("host")
    return f"Run 'segctl status' on {host}." if host else "Run 'segctl status' on a login node of its cluster."


def _allocation(records: Records, job: Job, now: float) -> Allocation:
    waiting = job.state in _WAITING
    since_seen = max(0.0, now - job.seen) if job.live else 0.0
    return Allocation(
        nodes=job.nodes,
        queue_reason=job.reason if waiting else "",
        expected_start=job.start if waiting and job.start and job.start > now else None,
        started=None if waiting else job.start,
        elapsed=None if waiting or job.elapsed is None else job.elapsed + since_seen,
        limit=job.limit,
        restart=job.restarts if job.restarts is not None else records.restart,
    )


def _moment(record: Mapping[str, Any], key: str) -> float:
    value = record.get(key)
    return float(value) if isinstance(value, (int, float)) else 0.0


def _age(seconds: float) -> str:
    return duration(max(0.0, seconds))
