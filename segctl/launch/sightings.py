"""What was last seen of each job, shared by all commands of a user: SLURM is asked rarely, however many look.

One small file per user and cluster below `files.cache_folder()`. It only saves questions: without it, or with a damaged
one, SLURM is asked anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from segctl.launch import scheduler
from segctl.launch.scheduler import Job, NoAnswerError
from segctl.runs.files import cache_folder, read_json, write_json

QUEUE_TIMEOUT = 3.0  # seconds; slurmctld that does not answer must not keep `segctl status` for more than 5
BOTH_TIMEOUT = 4.2
KEPT_SECONDS = 60 * 86400.0
KEPT_JOBS = 20_000


@dataclass(frozen=True)
class Wanted:
    """A job that is asked about: by its id, or by its name where only the intent to submit it is recorded.

    Attributes:
        id: Empty where it is not known.
        name: Empty where it does not matter.
        user: Who submitted it; empty: not known.
        since: When that was; what was seen before is of another job.
    """

    id: str = ""
    name: str = ""
    user: str = ""
    since: float = 0.0


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
            found = next((job for job in self.jobs.values() if wanted.name and job.name == wanted.name), None)
        return found if found is not None and found.seen >= wanted.since else None

    def in_queue(self, job: Job) -> bool:
        """Whether squeue named it when it was last asked."""
        return not self.failure and job.source == "squeue" and job.seen == self.answered


def ask(wanted: Sequence[Wanted], max_age: float) -> Answer:
    """What SLURM says of these jobs.

    Args:
        wanted: Jobs that may still change.
        max_age: Seconds that an answer may be old; within them SLURM is not asked again, also after a failure.
    """
    path = cache_folder() / f"slurm-{_cluster()}.json"
    known = _read(path)
    if not _stale(known, wanted, max_age):
        return known
    with _turn(path) as mine:
        known = _read(path) if mine is not None else known
        if not _stale(known, wanted, max_age):
            return known  # another command has asked meanwhile
        answer = _ask(wanted, known)
        _write(path, answer)
    return answer


def _stale(known: Answer, wanted: Sequence[Wanted], max_age: float) -> bool:
    age = time.time() - known.asked
    return not 0 <= age <= max_age


def _ask(wanted: Sequence[Wanted], known: Answer) -> Answer:
    began = time.monotonic()
    answer = _ask_queue(wanted, known)
    missing = sorted({one.id for one in wanted if one.id and _unsettled(one, answer)})
    if not missing:
        return answer
    try:
        told = scheduler.sacct(missing, BOTH_TIMEOUT - (time.monotonic() - began))
    except NoAnswerError as error:
        return replace(answer, accounting_failure=str(error))
    jobs = dict(answer.jobs)
    for job in told:
        before = jobs.get(job.id)
        if before is None or not job.live or job.seen > before.seen + KEPT_SECONDS:
            jobs[job.id] = replace(job, restarts=before.restarts if before else None)
    return replace(answer, accounting_failure="", jobs=jobs)


def _ask_queue(wanted: Sequence[Wanted], known: Answer) -> Answer:
    users = scheduler.known_users(one.user for one in wanted) if all(one.user for one in wanted) else []
    try:
        told = scheduler.squeue(users, QUEUE_TIMEOUT)
    except NoAnswerError as error:
        return replace(known, asked=time.time(), failure=str(error))
    now = time.time()
    jobs = {**known.jobs, **{job.id: replace(job, seen=now) for job in told}}
    return replace(known, asked=now, answered=now, users=tuple(users), failure="", jobs=jobs)


def _unsettled(one: Wanted, answer: Answer) -> bool:
    job = answer.job(one)
    if job is None:
        return True
    if job.live:
        return not answer.in_queue(job)
    return job.state == "CANCELLED" and job.source == "squeue" and not job.by


def _read(path: Path) -> Answer:
    content = read_json(path)
    if content is None:
        return Answer()
    try:
        jobs = {str(key): _job(value) for key, value in content["jobs"].items()}
        return Answer(
            asked=float(content["asked"]),
            answered=float(content["answered"]),
            users=tuple(content["users"]),
            failure=str(content["failure"]),
            accounting_failure=str(content["accounting_failure"]),
            jobs=jobs,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return Answer()


_FIELDS = tuple(each.name for each in fields(Job))


def _job(values: Sequence[Any]) -> Job:
    if len(values) != len(_FIELDS):
        raise ValueError("written by another version")
    return Job(*values)


def _write(path: Path, answer: Answer) -> None:
    oldest = answer.asked - KEPT_SECONDS
    kept = sorted((job for job in answer.jobs.values() if job.seen >= oldest), key=lambda job: job.seen)[-KEPT_JOBS:]
    jobs = {job.id: [getattr(job, name) for name in _FIELDS] for job in kept}
    with contextlib.suppress(OSError):  # a full disk, or a home that cannot be written
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {**asdict(replace(answer, jobs={})), "jobs": jobs})


@contextlib.contextmanager
def _turn(path: Path) -> Iterator[int | None]:
    """Waits while another command asks; None where that cannot be known, or takes too long."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield None
        return
    try:
        yield descriptor if _locked(descriptor) else None
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    deadline = time.monotonic() + BOTH_TIMEOUT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        except OSError:  # a file system without locks
            return False


def _cluster() -> str:
    """Tells clusters apart that share a home: by their configuration's path, else by their name in it."""
    configuration = os.environ.get("SLURM_CONF", "")
    names: Iterable[str] = (_cluster_name(path) for path in (configuration, *_CONFIGURATIONS) if path)
    name = next((name for name in names if name), "")
    return hashlib.sha256(f"{os.getuid()} {configuration} {name}".encode()).hexdigest()[:12]


_CONFIGURATIONS = ("/etc/slurm/slurm.conf", "/etc/slurm-llnl/slurm.conf", "/run/slurm/conf/slurm.conf")


def _cluster_name(path: str) -> str:
    try:
        found = re.search(r"(?im)^\s*ClusterName\s*=\s*(\S+)", Path(path).read_text(errors="replace"))
    except OSError:
        return ""
    return found[1] if found else ""
