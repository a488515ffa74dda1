"""`segctl why`: what happened to a run, what that rests on, and what to do next."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from segctl.errors import RunError, SegctlError
from segctl.launch.backends import FRESH, observe
from segctl.runs import evidence, store, sweeps
from segctl.runs.attempt import Attempt
from segctl.runs.blame import Blame, blame, signal_name
from segctl.runs.fault import HANG, Fault, unwrapped
from segctl.runs.records import Records
from segctl.runs.run import Reference, Run
from segctl.runs.state import Derived, State, deaths

__all__ = ["Cause", "Evidence", "Why", "why"]

Cause = Fault | Literal["time_limit", "preemption", "cancelled"]

_TAIL_BYTES = 65536
_MOST_RANKS = 8


@dataclass(frozen=True)
class Evidence:
    """Lines that say so, and where they stand: a file's path, or whose word it is."""

    source: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Why:
    """Why a run is in its state.

    Attributes:
        id: The run's.
        state: See `segctl.runs.state`.
        cause: In one line.
        kind: Of a run that failed or was ended: see `segctl.runs.fault`, or ``time_limit``, ``preemption``,
            ``cancelled``. None of any other, and where nothing is known.
        rank: The process that it began with; None where it was none, or all of them.
        host: Where that was.
        evidence: What it rests on, the most telling first.
        hint: The way out, in words.
        next: Commands to go on with, the first one first.
        path: The run's directory.
    """

    id: str
    state: State
    cause: str
    kind: Cause | None
    rank: int | None
    host: str
    evidence: tuple[Evidence, ...]
    hint: str
    next: tuple[str, ...]
    path: str


def why(run: Reference, *, runs_dir: Path | None = None) -> Why:
    """Why a run failed or was ended; of one that waits, what it waits for.

    Args:
        run: Id, unique start of an id, name or path.
        runs_dir: Folder of the runs; default: $SEGCTL_RUNS, else ``runs``.

    Raises:
        RunError: There is no such run, or it is a sweep.
    """
    folder = store.runs_dir(runs_dir)
    sweep = sweeps.meant(run, folder)
    if sweep is not None:
        raise RunError(f"{sweep.id} is a sweep.", f"Ask for one of its runs, which 'segctl status {sweep.id}' lists.")
    found = store.find(run, folder)
    ((records, derived),) = observe([found])
    culprit = _culprit(records, derived)
    kind = _kind(records, derived, culprit)
    return Why(
        id=found.id,
        state=derived.state,
        cause=_cause(records, derived),
        kind=kind,
        rank=culprit.rank if culprit else None,
        host=_host(records, culprit),
        evidence=tuple(each for each in _evidence(found, records, derived, culprit) if each.lines),
        hint=_unheard(found, records, derived) or derived.hint,
        next=tuple(dict.fromkeys(_next(found, records, derived, kind, culprit))),
        path=str(found.path),
    )


def _culprit(records: Records, derived: Derived) -> Blame | None:
    """The rank that a failure rests on; None where the state rests on something else."""
    found = blame(records.errors, deaths(records)) if derived.state == "FAILED" else None
    return found if found is not None and found.why == derived.why else None


def _host(records: Records, culprit: Blame | None) -> str:
    if culprit is None:
        return ""
    alone = records.attempt.get("host") if records.backend == "local" else ""
    return culprit.host or str(alone or "")


# What the words of a state mean that does not rest on a rank; they are ours, from `segctl.launch`.
_KINDS: tuple[tuple[str, Cause], ...] = (
    (r"preempt", "preemption"),
    (r"\bnode (failed|could not be started)|was restarted while it ran|could not start it on", "node"),
    (r"more memory than|out of memory", "out_of_memory_host"),
    (r"time limit|deadline", "time_limit"),
)


def _kind(records: Records, derived: Derived, culprit: Blame | None) -> Cause | None:
    if culprit is not None:
        return culprit.fault
    if derived.state not in ("FAILED", "CANCELLED", "TIMEOUT", "LOST"):
        return None
    if records.cancel and derived.state == "CANCELLED":
        return "cancelled"
    named = next((kind for pattern, kind in _KINDS if re.search(pattern, derived.why)), None)
    return named or {"CANCELLED": "cancelled", "TIMEOUT": "time_limit"}.get(derived.state)  # type: ignore[return-value]


def _trains(records: Records) -> bool:
    return bool(records.run.get("kind", "train") == "train")


def _cause(records: Records, derived: Derived) -> str:
    if derived.state == "COMPLETED":
        step, best = records.status.get("step"), records.status.get("best_miou")
        reached = f", best mIoU {100 * best:.1f} % at step {records.status.get('best_step')}" if best else ""
        return f"it has done all its {step} steps{reached}" if _trains(records) else "it is complete"
    if derived.state == "RUNNING":
        return f"nothing is wrong with it: {derived.why}"
    return derived.why


def _is_unheard(run: Run, records: Records, derived: Derived) -> bool:
    """Whether a job of SLURM has ended and not even its batch script's output is in the run's folder."""
    if records.backend != "slurm" or records.supervisor or derived.state not in ("FAILED", "LOST"):
        return False
    submitted = bool(records.attempt.get("job_id"))
    return submitted and not (run.logs / f"attempt{max(records.number, 1)}-leader.log").exists()


def _unheard(run: Run, records: Records, derived: Derived) -> str:
    if not _is_unheard(run, records, derived):
        return ""
    return (
        f"Nothing of the job has come into {run.path}: most likely its nodes do not see that folder, or cannot write "
        f"there; '{_check(run)}' finds out. Use a --runs-dir that all nodes share."
    )


def _check(run: Run) -> str:
    """The command that tries the place that a run was submitted to."""
    from segctl.config.yaml_core import read

    place = "slurm"
    with contextlib.suppress(SegctlError, KeyError, TypeError):
        place = read(run.config_file)["launch"]["profile"] or place
    there = run.path.parent
    elsewhere = "" if there == store.runs_dir().resolve() else f" --runs-dir {shlex.quote(str(there))}"
    return f"segctl profiles check {place}{elsewhere}"


def _evidence(run: Run, records: Records, derived: Derived, culprit: Blame | None) -> Iterator[Evidence]:
    if derived.state == "COMPLETED":
        return
    if culprit is not None and culprit.rank is not None:
        yield from _of_rank(run, records, culprit)
    elif derived.state in ("FAILED", "LOST", "STALLED"):
        yield _of_log(_log(run, records, 0))
        yield Evidence(str(run.supervisor_log), _tail(run.supervisor_log, 5))
    yield from _of_slurm(run, records, derived)
    yield Evidence(str(run.supervisor_file), tuple(_interruptions(records)))


def _of_rank(run: Run, records: Records, culprit: Blame) -> Iterator[Evidence]:
    """The blamed rank's record and log, and how the others stood."""
    mine = [error for error in records.errors if error.get("rank") == culprit.rank]
    for error in mine:
        yield Evidence(str(run.error_file(int(error["rank"]))), evidence.of_record(error))
    if not mine:
        dead = [death for death in deaths(records) if death.rank == culprit.rank]
        yield Evidence(str(run.supervisor_file), tuple(map(_ended, (vars(death) for death in dead))))
    yield _of_log(_log(run, records, culprit.rank or 0))
    hung = [error for error in records.errors if error.get("type") == HANG]
    stacks = [str(run.path / error["stacks"]) for error in hung if error in mine and error.get("stacks")]
    yield from (Evidence(path, ("the stacks of all its threads",)) for path in stacks if os.path.exists(path))
    others = [error for error in hung if error not in mine][:_MOST_RANKS]
    yield Evidence(
        str(run.errors), tuple(f"rank {each['rank']} on {each.get('host')}: {each['message']}" for each in others)
    )


def _ended(death: Mapping[str, Any]) -> str:
    """``rank 2 on n1: killed by SIGKILL, memory had run out``"""
    code = unwrapped(int(death["code"]))
    how = f"killed by {signal_name(-code)}" if code < 0 else f"exit code {code}"
    starved = {True: ", memory had run out", False: ", memory had not run out"}.get(death["out_of_memory"], "")
    memory = starved if code == -signal.SIGKILL else ""
    return f"rank {death['rank']}{' on ' + death['host'] if death['host'] else ''}: {how}{memory}"


def _of_log(path: Path) -> Evidence:
    return Evidence(str(path), evidence.of_log(_text(path)))


def _log(run: Run, records: Records, rank: int) -> Path:
    return run.log_file(max(records.number, 1), rank)


def _of_slurm(run: Run, records: Records, derived: Derived) -> Iterator[Evidence]:
    if records.backend != "slurm":
        return
    from segctl.launch.slurm.look import told

    this = Attempt(max(records.number, 1), records.restart)
    srun, leader = run.logs / f"{this}-srun.log", run.logs / f"attempt{this.number}-leader.log"
    if derived.state not in ("RUNNING", "PENDING"):
        yield Evidence(str(srun), evidence.of_srun(_text(srun)))
        yield Evidence(str(leader), _tail(leader, 3))
    job = told(records, FRESH)
    if job is not None:
        facts = (
            f"job {job.id}: {job.state}",
            f"exit code {job.exit_code}" if job.exit_code else "",
            f"reason {job.reason}" if job.reason else "",
            f"cancelled by {job.by}" if job.by else "",
            f"on {job.nodes}" if job.nodes else "",
            f"expected to start at {_clock(job.start)}" if job.state == "PENDING" and job.start else "",
        )
        yield Evidence(job.source, (", ".join(filter(None, facts)),))


def _interruptions(records: Records) -> Iterator[str]:
    """One line for each start that was interrupted."""
    history = records.supervisor.get("history")
    for entry in history if isinstance(history, list) else ():
        if entry.get("ended") and entry.get("reason"):
            nodes = f" on {entry['nodes']}" if entry.get("nodes") else ""
            start, end = _clock(entry.get("started")), _clock(entry["ended"])
            yield f"start {entry.get('restart', 0)}: {start} to {end}{nodes}, ended {entry['reason']}"


def _clock(moment: Any) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment)) if isinstance(moment, (int, float)) else "?"


_COMMAND = re.compile(r"'(segctl [^']*[^'. A-Z])'")  # not those in which something is left to fill in
_DOUBLED = re.compile(r"(\d+)([KMGT]?B?)")


def _next(run: Run, records: Records, derived: Derived, kind: Cause | None, culprit: Blame | None) -> Iterator[str]:
    """Commands, the most useful first."""
    name = records.id
    rank = f" --rank {culprit.rank}" if culprit and culprit.rank else ""
    if derived.state == "RUNNING":
        yield f"segctl logs {name} --follow"
        return
    if derived.state in ("PENDING", "REQUEUED"):
        yield f"segctl status {name} --watch"
        yield f"segctl cancel {name}"
        return
    if derived.state == "COMPLETED":
        yield f"segctl eval {name}" if _trains(records) else f"segctl status {name}"
        return
    if _is_unheard(run, records, derived):
        yield _check(run)
    elif kind == "person" or derived.state == "LOST":
        yield f"segctl logs {name}{rank}"
    resume = records.run.get("again") or f"segctl resume {name}{_differently(records, derived, kind, culprit)}"
    hinted = [command for command in _COMMAND.findall(derived.hint) if "segctl logs" not in command]
    yield from (resume if command == f"segctl resume {name}" else command for command in hinted)
    if derived.state in ("UNKNOWN", "STALLED"):
        yield f"segctl logs {name}{rank}"
        return
    if kind != "out_of_memory_device":
        yield resume
    if records.supervisor or records.status:  # else nothing has been printed
        yield f"segctl logs {name}{rank}"


def _differently(records: Records, derived: Derived, kind: Cause | None, culprit: Blame | None) -> str:
    """Flags with which the next attempt may fare better, where it is known from what to depart."""
    plan = records.attempt.get("plan")
    plan = plan if isinstance(plan, Mapping) else {}
    options = plan.get("sbatch") if isinstance(plan.get("sbatch"), Mapping) else {}
    if kind == "time_limit" and isinstance(plan.get("time_limit"), int):
        return f" --time {max(1, 2 * plan['time_limit'] // 60)}"
    if kind == "time_limit" and derived.allocation.limit:  # the partition's: a job that knows it saves ahead of it
        return f" --time {max(1, int(derived.allocation.limit // 60))}"
    if records.backend != "slurm" or options is None:
        return ""
    if kind == "out_of_memory_host" and (memory := _DOUBLED.fullmatch(str(options.get("mem", "")))):
        return f" --slurm mem={2 * int(memory[1])}{memory[2]}"
    if kind == "node" and culprit is not None and culprit.host:
        return f" --slurm exclude={culprit.host}"
    return ""


def _tail(path: Path, count: int) -> tuple[str, ...]:
    return tuple([line.rstrip() for line in _text(path).splitlines() if line.strip()][-count:])


def _text(path: Path) -> str:
    """The end of a file; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
