"""The process that carries a SLURM job out: it is the batch script, on the job's first node.

SLURM decides when and where a job runs. The leader starts its ranks with srun, passes on the signal that asks them to
save, judges how they ended, and has the job requeued where it should go on by itself. It plays the part that
`segctl.launch.local.supervisor` plays on one's own machine, and writes the same supervisor.json.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import segctl
from segctl.errors import RunError
from segctl.launch.inbox import Inbox, stop_grace
from segctl.launch.outcome import STOPPED, Ended
from segctl.launch.plan import LaunchPlan
from segctl.launch.rank_files import RankFiles
from segctl.launch.restarts import AT_LIMIT, AT_PREEMPTION, BY_REQUEST, newest_step, refusal
from segctl.launch.slurm import srun_report
from segctl.launch.slurm.commands import Said, said_by
from segctl.launch.slurm.plan import srun_command
from segctl.launch.slurm.scheduler import moment
from segctl.launch.slurm.srun_report import SrunReport, TaskEnd
from segctl.launch.slurm.verdict import Facts, Verdict, decide
from segctl.launch.state_file import StateFile
from segctl.launch.submission import planned
from segctl.runs import fence, sweeps
from segctl.runs.attempt import Attempt
from segctl.runs.code import with_snapshot
from segctl.runs.files import read_json
from segctl.runs.process import hostname
from segctl.runs.run import Run
from segctl.runs.usage import with_marks

log = logging.getLogger("segctl.leader")

LOOK_EVERY = 2.0  # seconds between two looks at files; the end of srun and a signal are noticed at once
TEARDOWN_SECONDS = 10.0  # a rank whose error is written has this long to end
FINISHED_SECONDS = 30.0  # so have all that have done their work; a thread of a library's can keep an interpreter
EARLY_SECONDS = 90.0  # SLURM may send the signal up to a minute early
RECORD_SECONDS = 60.0  # how long the submitting command may take from sbatch to recording the job
COMMAND_SECONDS = 30.0  # how long a command of SLURM may take
REQUEUE_SECONDS = 600.0  # how long a controller that does not answer is asked again
START_SECONDS = 600.0  # how long srun is called again where it could start nothing


class Leader:
    """One start of one attempt: from the first srun to the job's end on this allocation."""

    def __init__(self, run: Run, plan: LaunchPlan, this: Attempt, job: str, inbox: Inbox) -> None:
        self._run, self._plan, self._this, self._job, self._inbox = run, plan, this, job, inbox
        self._grace = stop_grace()
        self._srun: subprocess.Popen[bytes] | None = None
        self._srun_log = run.logs / f"{this}-srun.log"
        self._srun_began = 0  # in its log
        self._told_to_end = False
        self._interruption = ""
        self._deadline: float | None = None
        before = read_json(run.supervisor_file) or {}
        history = before.get("history", []) if before.get("attempt") == this.number else []
        self._history = with_marks(history, read_json(run.status_file), this.number)
        self._entry: dict[str, Any] = {
            "restart": this.restart,
            "started": time.time(),
            "ended": None,
            "reason": "",
            "nodes": os.environ.get("SLURM_JOB_NODELIST", hostname()),
            "from_step": newest_step(run),
        }
        record = {
            **this.as_record(),
            "job_id": job,
            "host": hostname(),
            "nodes": self._entry["nodes"],
            "started": self._entry["started"],
            "stop_grace": self._grace,
        }
        self._state = StateFile(run.supervisor_file, record)
        self._ends_at = math.inf
        self._files = RankFiles(run, this, job)

    def carry_out(self) -> int:
        """Does the job; returns the batch script's exit code."""
        if self._this.restart > self._plan.max_restarts:  # SLURM requeues after a node's failure as often as it likes
            why = f"it was interrupted {self._this.restart} times; launch.max_restarts is {self._plan.max_restarts}"
            return self._end(Verdict("FAILED", why), [])
        if not self._is_the_newest_start():
            return STOPPED
        self._files.forget_results(self._plan.world_size)
        self._write("RUNNING")
        self._find_the_call()
        if not self._is_cancelled():
            self._run_ranks()
        report = srun_report.read(self._srun_said())
        ranks = self._ended(report)
        verdict = decide(
            Facts(
                ranks,
                self._plan.world_size,
                cancelled=self._is_cancelled(),
                told_to_end=self._told_to_end or self._slurm_ends_it(),
                interruption=self._interruption,
                grace=self._grace,
            )
        )
        return self._end(verdict, self._deaths(ranks, report))

    def _is_the_newest_start(self) -> bool:
        """False where SLURM has given this node up and started the job again elsewhere: its word counts no more."""
        try:
            fence.claim(self._run, self._this, job_id=self._job)
        except fence.SupersededError as error:
            log.warning("this leader ends without a word: %s", error)
            return False
        except OSError as error:  # a full disk is the ranks' trouble
            log.warning("%s could not be written: %s", self._run.current_file, error)
        return True

    def _run_ranks(self) -> None:
        """Returns when all ranks have ended; a controller that is silent for a moment must not be a run's end."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            self._srun_began = len(_text(self._srun_log))
            self._call_srun()
            why = "" if self._files.errors() else srun_report.why_not_started(self._srun_said())
            if not why or self._told_to_end or self._interruption or time.monotonic() > deadline:
                return
            log.warning("srun has started nothing (%s); it is called again", why)
            self._inbox.wait(LOOK_EVERY)

    def _srun_said(self) -> str:
        """The last of them: what an earlier one said is no word on these ranks."""
        return _text(self._srun_log)[self._srun_began :]

    def _call_srun(self) -> None:
        self._ends_at = self._end_by_slurm()
        environment = {
            **self._plan.environment,
            **with_snapshot(os.environ, self._run),
            **self._this.as_environment(),
        }
        environment["SUBMITIT_EXECUTOR"] = "slurm"
        environment["SUBMITIT_LOG_LEVEL"] = "CRITICAL"  # a failing rank's traceback is in its log once
        with self._srun_log.open("ab") as errors:
            self._srun = subprocess.Popen(
                srun_command(self._run, self._plan, self._this),
                env=environment,
                stdin=subprocess.DEVNULL,
                stderr=errors,
            )
        while self._srun.poll() is None:
            self._step()

    def _step(self) -> None:
        """One turn: notices what has happened, acts on it, and sleeps until something does."""
        for name in self._inbox.take():
            self._request(name)
        if self._deadline is None and self._is_cancelled():
            self._request("segctl cancel")
        if self._deadline is None and self._is_time_to_save():
            self._request("its time limit")
        if any(word != "consequence" for word in self._files.errors().values()):
            self._limit(TEARDOWN_SECONDS)
        if all(self._files.finished(rank) for rank in range(self._plan.world_size)):
            self._limit(FINISHED_SECONDS)
        if self._deadline is not None and time.monotonic() >= self._deadline:
            log.warning("the ranks do not end; srun is killed, and SLURM ends them with the job")
            self._signal(signal.SIGKILL)
        left = LOOK_EVERY if self._deadline is None else self._deadline - time.monotonic()
        self._inbox.wait(min(LOOK_EVERY, max(left, 0.05)))

    def _request(self, name: str) -> None:
        log.info("asked to stop by %s", name)
        if name == "SIGTERM":
            # SLURM is ending the whole job, and has told the ranks itself.
            self._told_to_end = True
            return
        self._interruption = self._interruption or self._why_interrupted()
        self._signal(signal.SIGUSR2)
        self._limit(self._grace)

    def _why_interrupted(self) -> str:
        if time.time() >= self._saves_at() - EARLY_SECONDS:
            return AT_LIMIT
        return AT_PREEMPTION if self._facts_of_the_job().get("PreemptTime", "None") != "None" else BY_REQUEST

    def _is_time_to_save(self) -> bool:
        """Whether the time limit is near, should SLURM not say so: the signal must be asked for, and may get lost."""
        if time.time() < self._saves_at():
            return False
        self._ends_at = self._end_by_slurm()  # it may have been given more time
        return time.time() >= self._saves_at()

    def _saves_at(self) -> float:
        """When the ranks are to be asked; in a very short time limit half of it is left to them."""
        began: float = self._entry["started"]
        return self._ends_at - min(self._plan.save_before, (self._ends_at - began) / 2)

    def _end_by_slurm(self) -> float:
        """When SLURM will end the job; infinity where it has no limit."""
        end = moment(self._facts_of_the_job().get("EndTime", ""))
        if end is None and self._plan.time_limit is not None:
            return float(self._entry["started"]) + self._plan.time_limit
        return math.inf if end is None else end

    def _signal(self, signum: int) -> None:
        """srun passes signals on to all ranks, except SIGKILL, which ends srun itself."""
        if self._srun is not None and self._srun.poll() is None:
            self._srun.send_signal(signum)

    def _limit(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self._deadline = deadline if self._deadline is None else min(self._deadline, deadline)

    def _is_cancelled(self) -> bool:
        return (read_json(self._run.cancel_file) or {}).get("attempt") == self._this.number

    def _facts_of_the_job(self) -> dict[str, str]:
        """The controller's record of this job; empty where it does not answer."""
        said = _said_by("scontrol", "show", "job", self._job, "--oneliner")
        fields = (word.partition("=") for word in said.out.split()) if said.code == 0 else ()
        return {name: value for name, _, value in fields}

    def _slurm_ends_it(self) -> bool:
        """Whether SLURM itself is ending the job; the steps hear of it a moment before the batch script."""
        facts = self._facts_of_the_job()
        if facts.get("PreemptTime", "None") != "None":
            self._interruption = self._interruption or AT_PREEMPTION
        return facts.get("JobState", "RUNNING") != "RUNNING"

    def _ended(self, report: SrunReport) -> list[Ended]:
        """How the ranks ended, as far as their files and srun say."""
        errors = self._files.errors()
        asked = bool(self._interruption) or self._told_to_end or self._is_cancelled()
        said = {end.rank: end for end in report.ends}
        order = [*said, *(rank for rank in range(self._plan.world_size) if rank not in said)]
        # srun does not speak of exit code 0. Where SLURM still holds the job no node was lost, so that is what it was.
        seen_to_the_end = self._facts_of_the_job().get("JobState") == "RUNNING"
        ended = []
        for rank in order:
            finished = self._files.finished(rank)
            if rank not in said and not finished and rank not in errors and not seen_to_the_end:
                continue
            end = said.get(rank, TaskEnd(rank, "", 1 if rank in errors else 0))
            ended.append(Ended(rank, end.code, finished, errors.get(rank), asked, killed=end.after_the_first))
        return ended

    def _find_the_call(self) -> None:
        """submitit gives the pickled call the job's number after it has it; it may have been cut off in between."""
        call = self._run.submitit / f"{self._job}_submitted.pkl"
        deadline = time.monotonic() + RECORD_SECONDS
        while not call.exists() and time.monotonic() < deadline:
            time.sleep(0.5)
        unnamed = [path for path in self._run.submitit.glob("*.pkl") if "_" not in path.name]
        if not call.exists() and unnamed:
            os.link(max(unnamed, key=lambda path: path.stat().st_mtime), call)

    def _deaths(self, ranks: Sequence[Ended], report: SrunReport) -> list[dict[str, Any]]:
        said = {end.rank: end for end in report.ends}
        return [
            {
                "rank": rank.rank,
                "host": said[rank.rank].host if rank.rank in said else self._host_of(rank.rank),
                "code": rank.code,
                "last_line": self._files.last_line(rank.rank) if rank.code > 0 else "",
                "out_of_memory": report.out_of_memory,
            }
            for rank in ranks
            if rank.failed
        ]

    def _host_of(self, rank: int) -> str:
        """Ranks go to the nodes block by block, as sbatch's --ntasks-per-node has it."""
        nodes = _said_by("scontrol", "show", "hostnames", self._entry["nodes"]).out.split()
        place = rank // self._plan.procs_per_node
        return nodes[place] if place < len(nodes) else ""

    def _end(self, verdict: Verdict, deaths: Sequence[dict[str, Any]]) -> int:
        """Records the verdict and carries it out."""
        if not self._is_the_newest_start():
            return STOPPED
        log.info("%s %s", verdict.state, verdict.reason)
        if verdict.state == "REQUEUE":
            return self._requeue_unless_refused(verdict.reason)
        failed = verdict.state == "FAILED"
        self._write(verdict.state, verdict.reason, ended=True, deaths=list(deaths) if failed else [])
        if verdict.state == "CANCELLED":
            _said_by("scancel", self._job)  # so that SLURM and the jobs that wait for this one know
        return {"COMPLETED": 0, "FAILED": 1}.get(verdict.state, STOPPED)

    def _requeue_unless_refused(self, reason: str) -> int:
        why_not = refusal(self._plan, [*self._earlier(), {**self._entry, "reason": reason}], newest_step(self._run))
        if why_not:
            state = {AT_LIMIT: "TIMEOUT", AT_PREEMPTION: "CANCELLED", BY_REQUEST: "CANCELLED"}.get(reason, "FAILED")
            self._write(state, f"stopped {reason}; it does not go on by itself: {why_not}", ended=True)
            return STOPPED
        self._write("REQUEUED", reason, ended=True)
        return self._requeue()

    def _requeue(self) -> int:
        deadline = time.monotonic() + REQUEUE_SECONDS
        while True:
            said = _said_by("scontrol", "requeue", self._job)
            if said.code == 0 or "pending" in said.err:
                time.sleep(60)  # SLURM ends this process
                return STOPPED
            log.warning("scontrol requeue: %s", said.err)
            if time.monotonic() > deadline:
                self._write("FAILED", f"it could not be requeued: {said.err}", ended=True)
                return 1
            self._inbox.take()
            self._inbox.wait(LOOK_EVERY)

    def _write(self, state: str, reason: str = "", *, ended: bool = False, deaths: Sequence[Any] = ()) -> None:
        """supervisor.json. A disk that is full now may have room in a moment; the job goes on meanwhile."""
        now = time.time() if ended else None
        self._entry.update(ended=now, reason=reason)
        history = with_marks([*self._earlier(), self._entry], read_json(self._run.status_file), self._this.number)
        content: dict[str, Any] = {
            "state": state,
            "reason": reason,
            "ended": now,
            "deaths": list(deaths),
            "history": history,
        }
        self._state.write(**content)
        for _ in range(10):
            if self._state.retry():
                return
            time.sleep(1.0)

    def _earlier(self) -> list[dict[str, Any]]:
        return [entry for entry in self._history if entry["restart"] < self._this.restart]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m segctl.launch.slurm.leader", description="Carries out a SLURM job of a run."
    )
    parser.add_argument("run_dir", type=Path, nargs="?")
    parser.add_argument("attempt", type=int, nargs="?", default=1)
    parser.add_argument("--sweep", nargs=2, metavar=("SWEEP", "FIRST"), help="the run is this element of an array")
    given = parser.parse_args(arguments)
    inbox = Inbox()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        run = Run(given.run_dir) if given.sweep is None else _element(Path(given.sweep[0]), int(given.sweep[1]))
    except RunError as error:
        log.error("%s It is looked for on %s.", error, hostname())
        return 1
    plan = planned(run, given.attempt)
    if plan is None:
        log.error("%s cannot be seen from %s, or does not have attempt %d", run.path, hostname(), given.attempt)
        return 1
    this = Attempt(given.attempt, int(os.environ.get("SLURM_RESTART_COUNT", 0)))
    job = _job_id()
    log.info("%s of %s as job %s on %s", this, run.id, job, os.environ.get("SLURM_JOB_NODELIST"))
    log.info("Python %s, segctl in %s", sys.executable, Path(segctl.__file__).parent)
    return Leader(run, plan, this, job, inbox).carry_out()


def _element(sweep: Path, first: int) -> Run:
    """The run that this element of a job array carries out.

    Raises:
        RunError: The sweep's table cannot be read here.
    """
    return sweeps.read(sweep).runs[first + int(os.environ["SLURM_ARRAY_TASK_ID"])]


def _job_id() -> str:
    """This job's number; of an element of an array, in the form that SLURM's commands and submitit take."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]


def _said_by(*words: str) -> Said:
    return said_by(words, seconds=COMMAND_SECONDS)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
