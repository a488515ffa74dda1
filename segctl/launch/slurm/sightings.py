"""What was last seen of each job, shared by all commands of a user: SLURM is asked rarely, however many look.

One file per user and cluster below `files.cache_folder()`. It only saves questions: without it, or with a damaged one,
SLURM is asked anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from segctl.launch.slurm import scheduler
from segctl.launch.slurm.scheduler import Job, NoAnswerError
from segctl.runs.files import cache_folder, read_json, write_json

QUEUE_TIMEOUT = 3.0  # seconds; a slurmctld that does not answer must not keep `segctl status` for more than 5
TOTAL_TIMEOUT = 3.8
PURGED_SECONDS = 900.0  # after this slurmctld has forgotten a job that ended (MinJobAge), and nobody can requeue it
ACCOUNTING_LAG = 120.0  # sacct may hear of an end so much later
KEPT_SECONDS = 60 * 86400.0
KEPT_JOBS = 20_000
_MOST_IDS = 8_000  # in one command line


@dataclass(frozen=True)
class Wanted:
    """A job that is asked about: by its id, or by its name where only the intent to submit it is recorded.

    Attributes:
        id: Empty where it is not known.
        name: Empty where it does not matter.
        element: Which one of a job array of that name; None for a job of its own.
        user: Who submitted it; empty: not known.
        since: When that was; what was seen before is of another job.
        unexplained: The restart of which it is not known how it ended, should it have been followed by another.
    """

    id: str = ""
    name: str = ""
    element: int | None = None
    user: str = ""
    since: float = 0.0
    unexplained: int | None = None

    def named(self, job: Job) -> bool:
        """Whether it is this job, by its name."""
        is_element = self.element is None or job.id.endswith(f"_{self.element}")
        return bool(self.name) and job.name == self.name and is_element


@dataclass(frozen=True)
class Answer:
    """What SLURM said, now or some seconds ago.

    Attributes:
        asked: When it was last asked; Unix seconds.
        answered: When squeue last answered; 0: never.
        users: Whose jobs it was asked for; none: everybody's.
        failure: Why squeue did not answer the last time; empty if it did.
        accounting_failure: The same of sacct.
        jobs: What was last said of each job, by id.
    """

    asked: float = 0.0
    answered: float = 0.0
    users: tuple[str, ...] = ()
    failure: str = ""
    accounting_failure: str = ""
    jobs: Mapping[str, Job] = field(default_factory=dict)

    def job(self, wanted: Wanted) -> Job | None:
        """What was last said of it."""
        if wanted.id:
            found = self.jobs.get(wanted.id)
        else:
            found = next((job for job in self.jobs.values() if wanted.named(job)), None)
        return found if found is not None and found.seen >= wanted.since else None

    def in_queue(self, job: Job) -> bool:
        """Whether squeue named it when it was last asked, and answered."""
        return not self.failure and job.source == "squeue" and job.seen == self.answered

    def covers(self, wanted: Wanted) -> bool:
        return not self.users or wanted.user in self.users


def ask(wanted: Sequence[Wanted], max_age: float) -> Answer:
    """What SLURM says of jobs.

    Args:
        wanted: The jobs.
        max_age: Seconds that an answer may be old; within them SLURM is not asked again, also where it did not answer.
    """
    path = cache_folder() / f"slurm-{cluster_key()}.json"
    known = _read(path)
    if not _must_ask(wanted, known, max_age):
        return known
    with _turn(path):
        known = _read(path)
        if _must_ask(wanted, known, max_age):  # no other command has asked meanwhile
            known = _ask(wanted, known)
            _write(path, known)
    return known


def _must_ask(wanted: Sequence[Wanted], known: Answer, max_age: float) -> bool:
    now = time.time()
    undecided = [one for one in wanted if not _is_over(known.job(one))]
    recent = 0 <= now - known.asked <= max_age and all(known.covers(one) for one in undecided)
    return bool(undecided) and not recent


def _is_over(job: Job | None) -> bool:
    """Whether it had ended so long ago when it was last seen that it cannot have gone on since."""
    return job is not None and not job.live and job.end is not None and job.seen - job.end > PURGED_SECONDS


def _ask(wanted: Sequence[Wanted], known: Answer) -> Answer:
    deadline = time.monotonic() + TOTAL_TIMEOUT
    answer = _ask_queue(wanted, known)
    unsettled = [one for one in wanted if _is_unsettled(one, answer)]
    # Whoever looks next finds what became of the jobs that have just left the queue, too.
    left = [job.id for job in answer.jobs.values() if job.live and job.seen == known.answered != answer.answered]
    ids = sorted({one.id for one in sorted(unsettled, key=lambda one: -one.since)[:_MOST_IDS] if one.id}.union(left))
    names = {one.name: one.since for one in unsettled if not one.id and one.name}
    try:
        told = scheduler.sacct(deadline - time.monotonic(), ids=ids) if ids else []
        if names and not answer.failure:
            oldest = min(names.values()) - 60
            told += scheduler.sacct(deadline - time.monotonic(), names=sorted(names), since=oldest)
    except NoAnswerError as error:
        return replace(answer, accounting_failure=str(error))
    jobs = dict(answer.jobs)
    for job in told:
        jobs[job.id] = _merged(jobs.get(job.id), job, in_queue=job.id in jobs and answer.in_queue(jobs[job.id]))
    return replace(answer, accounting_failure="", jobs=jobs)


def _merged(before: Job | None, told: Job, *, in_queue: bool) -> Job:
    """What is known of a job once sacct has spoken too; squeue knows better what still lives."""
    if before is None:
        return told
    if in_queue or told.live:
        return replace(
            before, interruption=told.interruption, by=told.by, exit_code="" if told.live else told.exit_code
        )
    return replace(told, restarts=before.restarts, reason=before.reason)


def _ask_queue(wanted: Sequence[Wanted], known: Answer) -> Answer:
    everybody = not known.users and 0 <= time.time() - known.answered < 60  # somebody who looks too needs that
    users = [] if everybody else scheduler.known_users([*(one.user for one in wanted), *known.users])
    try:
        told = scheduler.squeue(users, QUEUE_TIMEOUT)
    except NoAnswerError as error:
        return replace(known, asked=time.time(), failure=str(error))
    now = time.time()
    jobs = dict(known.jobs)
    for job in told:
        jobs[job.id] = _renewed(jobs.get(job.id), replace(job, seen=now))
    return replace(known, asked=now, answered=now, users=tuple(users), failure="", jobs=jobs)


def _renewed(before: Job | None, told: Job) -> Job:
    """What squeue says anew, with what only sacct says."""
    if before is None or before.restarts != told.restarts:
        return told
    told = replace(told, interruption=before.interruption)
    return replace(told, by=before.by, exit_code=before.exit_code) if before.state == told.state else told


def _is_unsettled(one: Wanted, answer: Answer) -> bool:
    """Whether sacct may know more of it."""
    job = answer.job(one)
    if job is None:
        return True
    if not job.live:
        since_end = answer.asked - (job.end or job.seen)
        # squeue does not say who cancelled a job, nor its exit code.
        half_told = job.source == "squeue" and not job.by and not job.exit_code and since_end < ACCOUNTING_LAG
        may_have_gone_on = not _is_over(job) and since_end > PURGED_SECONDS and not answer.in_queue(job)
        return half_told or may_have_gone_on
    if not answer.in_queue(job):
        return True
    return one.unexplained is not None and (job.restarts or 0) > one.unexplained and not job.interruption


def _read(path: Path) -> Answer:
    content = read_json(path) or {}
    try:
        return Answer(
            asked=float(content["asked"]),
            answered=float(content["answered"]),
            users=tuple(content["users"]),
            failure=str(content["failure"]),
            accounting_failure=str(content["accounting_failure"]),
            jobs={values[0]: _job(values) for values in content["jobs"]},
        )
    except (KeyError, IndexError, TypeError, ValueError):
        return Answer()


_FIELDS = tuple(each.name for each in fields(Job))


def _job(values: Sequence[Any]) -> Job:
    if len(values) != len(_FIELDS):
        raise ValueError("written by another version")
    return Job(*values)


def _write(path: Path, answer: Answer) -> None:
    oldest = answer.asked - KEPT_SECONDS
    kept = sorted((job for job in answer.jobs.values() if job.seen >= oldest), key=lambda job: job.seen)[-KEPT_JOBS:]
    content = {**vars(answer), "jobs": [[getattr(job, name) for name in _FIELDS] for job in kept]}
    with contextlib.suppress(OSError):  # a full disk, or a home that cannot be written
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content)


@contextlib.contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Waits while another command asks, where that can be known."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield
        return
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    deadline = time.monotonic() + TOTAL_TIMEOUT
    while time.monotonic() < deadline:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(0.02)
        except OSError:  # a file system without locks
            return


def cluster_key() -> str:
    """Tells clusters apart that share a home: by their configuration's path, and their name in it."""
    configuration = os.environ.get("SLURM_CONF", "")
    return hashlib.sha256(f"{os.getuid()} {configuration} {cluster_name()}".encode()).hexdigest()[:12]


_CONFIGURATIONS = ("/etc/slurm/slurm.conf", "/etc/slurm-llnl/slurm.conf", "/run/slurm/conf/slurm.conf")


def cluster_name() -> str:
    """The cluster that SLURM's commands speak to from here; empty where no configuration says it."""
    given = os.environ.get("SLURM_CONF")
    for path in [given] if given else _CONFIGURATIONS:
        with contextlib.suppress(OSError):
            found = re.search(r"(?im)^\s*ClusterName\s*=\s*(\S+)", Path(path).read_text(errors="replace"))
            if found is not None:
                return found[1].lower()
    return ""
