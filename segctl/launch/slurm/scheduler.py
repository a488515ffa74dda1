"""What SLURM says of jobs: `squeue` and `sacct`, each asked once for all of them, and their answers read.

When they are asked, and what is kept of the answers, stands in `segctl.launch.slurm.sightings`.
"""

from __future__ import annotations

import pwd
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from segctl.launch.slurm.commands import Said, said_by

# Job names may hold anything, line ends too; nobody types these two.
FIELD, RECORD = "\x1f", "\x1e"

_SQUEUE = (
    *("JobArrayID", "State", "Reason", "StartTime", "EndTime", "TimeUsed", "TimeLimit", "NodeList"),
    *("RestartCnt", "UserName", "Name"),
)
_SACCT = ("JobID", "State", "ExitCode", "Start", "End", "ElapsedRaw", "TimelimitRaw", "NodeList", "User", "JobName")

# Not final: it may go on by itself, or is being cleared away.
LIVE = frozenset(
    (
        *("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"),
        *("RESIZING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD", "POWER_UP_NODE"),
    )
)


@dataclass(frozen=True)
class Job:
    """What SLURM said of one job, or of one element of an array.

    Attributes:
        id: ``123``, or ``123_4`` in an array.
        state: SLURM's word in full, such as ``PENDING``.
        reason: SLURM's word for why it waits or ended, such as ``Resources``.
        start: When it began, or is expected to; Unix seconds.
        end: When it ended; of a job that has not, when it will at the latest, or None.
        elapsed: Seconds it has run since its last start.
        limit: Seconds it may run; None without a limit.
        nodes: Such as ``n[0-2]``.
        restarts: How often it was requeued; None where SLURM does not say.
        interruption: SLURM's word for how its last start ended, such as ``NODE_FAIL``; empty where it was not asked.
        by: Who cancelled it.
        exit_code: ``code:signal``.
        source: ``squeue`` or ``sacct``.
        seen: When that was said; Unix seconds.
    """

    id: str
    state: str
    name: str = ""
    reason: str = ""
    start: float | None = None
    end: float | None = None
    elapsed: float | None = None
    limit: float | None = None
    nodes: str = ""
    restarts: int | None = None
    user: str = ""
    interruption: str = ""
    by: str = ""
    exit_code: str = ""
    source: str = "squeue"
    seen: float = 0.0

    @property
    def live(self) -> bool:
        return self.state in LIVE


class NoAnswerError(Exception):
    """The scheduler did not answer; says why, in a few words."""


def squeue(users: Sequence[str], timeout: float) -> list[Job]:
    """All jobs of these users that slurmctld knows, those that ended a short while ago included.

    Args:
        users: Names; none: everybody's.
        timeout: Seconds.

    Raises:
        NoAnswerError: There is no answer.
    """
    layout = f":{FIELD},".join(_SQUEUE) + f":{RECORD}"
    whose = ["--users", ",".join(users)] if users else []
    said = _ask(["squeue", "--noheader", "--all", "--states=all", "--array", *whose, "--Format", layout], timeout)
    jobs = list(parse_squeue(said, time.time()))
    if not jobs and said.strip():
        raise NoAnswerError("squeue's answer cannot be read")
    return jobs


def sacct(timeout: float, *, ids: Sequence[str] = (), names: Sequence[str] = (), since: float = 0.0) -> list[Job]:
    """What the accounting has on jobs.

    Args:
        timeout: Seconds.
        ids: Which ones, by id.
        names: Or by name; there may be several of a name.
        since: Unix seconds; jobs by name are older than this only if they still ran then.

    Raises:
        NoAnswerError: There is no answer; so it is where accounting is off.
    """
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since))
    which = ["--jobs", ",".join(ids)] if ids else ["--name", ",".join(names), "--starttime", moment]
    # With -D each start of a requeued job has a row, the newest last.
    layout = ["-D", "-X", "-P", "--noheader", f"--delimiter={FIELD}", "--format", ",".join(_SACCT)]
    newest: dict[str, Job] = {}
    for job in parse_sacct(_ask(["sacct", *layout, *which], timeout), time.time()):
        before = newest.get(job.id)
        newest[job.id] = replace(job, interruption=before.state) if before is not None else job
    return list(newest.values())


def parse_squeue(said: str, now: float) -> Iterator[Job]:
    """The jobs in squeue's answer; rows that cannot be read are left out."""
    for row in said.split(RECORD):
        fields = row.lstrip("\n").split(FIELD, len(_SQUEUE) - 1)
        if len(fields) != len(_SQUEUE):
            continue
        ids, state, reason, start, end, used, limit, nodes, restarts, user, name = fields
        for job_id in expand(ids.strip()):
            yield Job(
                id=job_id,
                state=_first(state),
                name=name,
                reason=_said(reason),
                start=moment(start),
                end=moment(end),
                elapsed=_seconds(used),
                limit=_seconds(limit),
                nodes=_said(nodes),
                restarts=int(restarts) if restarts.strip().isdigit() else None,
                user=user.strip(),
                seen=now,
            )


def parse_sacct(said: str, now: float) -> Iterator[Job]:
    """The jobs in sacct's answer; rows that cannot be read, steps among them, are left out."""
    for row in said.split("\n"):
        fields = row.split(FIELD, len(_SACCT) - 1)
        if len(fields) != len(_SACCT):
            continue
        ids, state, exit_code, start, end, elapsed, limit, nodes, user, name = fields
        for job_id in expand(ids):
            yield Job(
                id=job_id,
                state=_first(state),
                name=name,
                start=moment(start),
                end=moment(end),
                elapsed=float(elapsed) if elapsed.isdigit() else None,
                limit=float(limit) * 60 if limit.isdigit() else None,
                nodes=_said(nodes),
                user=user,
                by=_canceller(state),
                exit_code=exit_code,
                source="sacct",
                seen=now,
            )


def expand(ids: str) -> Iterator[str]:
    """``123_[4-5,9%2]`` as ``123_4``, ``123_5``, ``123_9``; anything else as it is."""
    array = re.fullmatch(r"(\d+)_\[([\d,:-]+).*\]", ids)
    if array is None:
        yield ids
        return
    for part in array[2].split(","):
        span = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if span is not None:
            first, last, stride = int(span[1]), int(span[2] or span[1]), int(span[3] or 1)
            yield from (f"{array[1]}_{element}" for element in range(first, last + 1, stride))


def known_users(users: Iterable[str]) -> list[str]:
    """These users, or none where one is not known here: squeue passes over that one as if it had no jobs."""
    names = sorted(set(users))
    try:
        for name in names:
            pwd.getpwnam(name)
    except KeyError:
        return []
    return names


def _ask(command: Sequence[str], timeout: float) -> str:
    # The moments are asked for without a time zone.
    said = said_by(command, seconds=max(timeout, 0.1), variables={"SLURM_TIME_FORMAT": "%s"})
    if said.absent:
        raise NoAnswerError(said.err)
    if said.code != 0:
        raise NoAnswerError(_complaint(command[0], said))
    return said.out


_DAEMON = {"squeue": "slurmctld", "sacct": "slurmdbd"}


def _complaint(command: str, said: Said) -> str:
    if said.unreachable or re.search(r"(?i)timed out|connection refused", said.err):
        return f"{_DAEMON[command]} does not answer"
    if "accounting storage is disabled" in said.err.lower():
        return "accounting is off"
    lines = said.err.splitlines()
    return f"{command} failed: {lines[-1]}" if lines else f"{command} failed"


def _first(state: str) -> str:
    words = state.split()
    return words[0].rstrip("+") if words else ""


def _canceller(state: str) -> str:
    """``CANCELLED by 1000`` names a uid, which may have no name here."""
    found = re.search(r" by (\S+)", state)
    if found is None:
        return ""
    try:
        return pwd.getpwuid(int(found[1])).pw_name
    except (KeyError, ValueError):
        return f"user {found[1]}" if found[1].isdigit() else found[1]


def _said(text: str) -> str:
    text = text.strip()
    return "" if text in ("None", "N/A", "(null)", "None assigned", "Unknown") else text


def moment(text: str) -> float | None:
    """A moment as SLURM writes it, in Unix seconds; None for ``Unknown``, ``N/A`` and the like."""
    text = text.strip()
    if text.isdigit():
        return float(text)
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return None


def _seconds(text: str) -> float | None:
    """``1-02:03:04``, ``02:03:04``, ``3:04`` as seconds; None for UNLIMITED, INVALID and the like."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
