"""This machine as a place to run jobs, through submitit, in whose plugin hook these classes stand.

submitit's own local executor runs a controller in the terminal's process group, keeps the job's state in the submitting
process's memory, ends jobs after two minutes and numbers GPUs anew. Here submitit does what it is good at: it carries
the call, starts as each rank and says who that rank is. The rest is `segctl.launch.local.supervisor`'s, a process that
belongs to no terminal.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from submitit.core import core, job_environment, utils

from segctl.errors import LaunchError, RunError
from segctl.launch import payload
from segctl.launch.environment import JOB_VARIABLES, cleaned, job_id
from segctl.launch.local.processes import SUPERVISOR_MARK
from segctl.launch.plan import LaunchPlan, python_module, task_command
from segctl.launch.rank_files import last_line
from segctl.launch.submission import AttemptRecord, Submission
from segctl.runs.files import read_json
from segctl.runs.process import identify
from segctl.runs.records import read as read_records
from segctl.runs.run import Run

_ANSWER_SECONDS = 15.0
_LAST_MOMENT = 2.0


def submit(run: Run, plan: LaunchPlan) -> Submission:
    """Starts the run's next attempt; returns once its supervisor has answered.

    Raises:
        LaunchError: It could not be started. The run is then as it was before.
        RunError: An earlier attempt is still running.
    """
    from segctl.launch.local.supervisor import lock_run

    run = Run(run.path.resolve())
    try:
        # A job that has just said its last word needs a moment to be gone.
        deadline = time.monotonic() + _LAST_MOMENT
        while (lock := lock_run(run)) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if lock is None:
            raise RunError(
                f"{run.id} still has a running job.",
                f"Follow it with 'segctl status {run.id}', or 'segctl cancel {run.id}'.",
            )
        try:
            return _submit_locked(run, plan, lock)
        finally:
            os.close(lock)  # the supervisor has its own copy, and with it the lock
    except OSError as error:
        raise LaunchError(
            f"{run.id} could not be started: {error.filename or run.path}: {error.strerror or error}.",
            "Check that the run's folder can be written and that its disk has room.",
        ) from error


def _submit_locked(run: Run, plan: LaunchPlan, lock: int) -> Submission:
    record = AttemptRecord(run, plan)
    executor = SegctlLocalExecutor(run.submitit)
    executor.update_parameters(attempt=record.number, world_size=plan.world_size, lock_fd=lock)
    run.logs.mkdir(exist_ok=True)
    try:
        record.write()
        job = executor.submit(payload.run_job, str(run.path))
        assert isinstance(job, SegctlLocalJob)
        assert job.supervisor is not None
        process = identify(job.supervisor.pid)
        record.write(process)
    except BaseException:
        executor.abandon()
        with contextlib.suppress(OSError):
            record.take_back()
        raise
    job.release()
    try:
        _await_answer(run, record.number, job.supervisor)
    except LaunchError:
        with contextlib.suppress(OSError):
            record.take_back()
        raise
    return Submission(run, plan.backend, record.number, process)


def _await_answer(run: Run, attempt: int, supervisor: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _ANSWER_SECONDS
    while time.monotonic() < deadline:
        if (read_json(run.supervisor_file) or {}).get("attempt") == attempt:
            return
        if supervisor.returncode is not None:
            said = last_line(run.supervisor_log) or "it left no word."
            raise LaunchError(
                f"The supervisor of {run.id} ended at once: {said}", f"All it said is in {run.supervisor_log}."
            )
        time.sleep(0.02)


class SegctlLocalJobEnvironment(job_environment.JobEnvironment):
    """Who a rank is that segctl's local supervisor started."""

    _env = JOB_VARIABLES

    def _handle_signals(self, paths: utils.JobPaths, submission: utils.DelayedSubmission) -> None:
        """Nothing: submitit's checkpoint inside of the handler and swallow SIGTERM; the payload's set a flag."""


class _Paths(utils.JobPaths):
    """submitit's files in RUN/submitit, but the ranks' logs where a run has them."""

    @property
    def stdout(self) -> Path:
        attempt = int(str(self.job_id).removeprefix("attempt") or 0)
        return Run(self.folder.parent).log_file(attempt, self.task_id)

    @property
    def stderr(self) -> Path:
        return self.stdout


class SegctlLocalJob(core.Job[Any]):
    """submitit's view of one attempt. Its state is the run's, read from files, the same for every process that asks."""

    def __init__(self, folder: Path | str, job_id: str, tasks: Sequence[int] = (0,)) -> None:
        super().__init__(folder, job_id, tasks)
        self._paths = _Paths(folder, job_id=job_id, task_id=self.task_id)
        self.supervisor: subprocess.Popen[bytes] | None = None

    def _register_in_watcher(self) -> None:
        """There is nothing to poll: each question is answered from the run's files."""

    def release(self) -> None:
        """Lets the supervisor begin, now that all it needs is in place."""
        from segctl.launch.local.supervisor import GO

        assert self.supervisor is not None
        assert self.supervisor.stdin is not None
        with contextlib.suppress(BrokenPipeError), self.supervisor.stdin as pipe:
            pipe.write(GO)

    def _run(self) -> Run:
        return Run(self.paths.folder.parent)

    def done(self, force_check: bool = False) -> bool:
        from segctl.runs.state import FINAL

        return self.state in FINAL

    @property
    def state(self) -> str:
        from segctl.launch.backends import observe

        return observe([self._run()])[0][1].state

    def get_info(self, mode: str = "force") -> dict[str, str]:
        return {"jobState": self.state}

    def cancel(self, check: bool = True) -> None:
        from segctl.launch.local.watch import cancel

        cancel(self._run(), read_records(self._run()))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "supervisor": None}


class SegctlLocalExecutor(core.PicklingExecutor):
    """Starts the supervisor of a run on this machine.

    Args:
        folder: ``RUN/submitit``.
    """

    job_class = SegctlLocalJob

    def __init__(self, folder: Path | str) -> None:
        super().__init__(folder)
        self._throttling = 0.0  # made for a scheduler that many jobs are sent to
        self._supervisor: subprocess.Popen[bytes] | None = None

    @classmethod
    def affinity(cls) -> int:
        return -1  # never submitit.AutoExecutor's own choice: other programs go on as if segctl were not installed

    @classmethod
    def _valid_parameters(cls) -> set[str]:
        return {"attempt", "world_size", "lock_fd"}

    def _num_tasks(self) -> int:
        return int(self.parameters["world_size"])

    @property
    def _submitit_command_str(self) -> str:
        return " ".join(task_command(str(self.folder)))

    def _submit_command(self, command: str) -> SegctlLocalJob:
        run = Run(self.folder.parent)
        if "attempt" not in self.parameters or not run.run_file.is_file():
            raise LaunchError(
                "segctl's executor starts segctl's runs only.", "Use segctl.train, or another executor of submitit."
            )
        attempt, lock = int(self.parameters["attempt"]), int(self.parameters["lock_fd"])
        with run.supervisor_log.open("ab") as log:
            supervisor = subprocess.Popen(
                python_module("segctl.launch.local.supervisor", str(run.path), str(attempt), "--lock-fd", str(lock)),
                env={**cleaned(os.environ), SUPERVISOR_MARK: str(run.path)},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock,),
            )
        # Nobody need wait for it; but while this process lives, one has to bury it.
        threading.Thread(target=supervisor.wait, name=f"bury-{run.id}", daemon=True).start()
        job = SegctlLocalJob(self.folder, job_id(attempt), list(range(self._num_tasks())))
        job.supervisor = self._supervisor = supervisor
        return job

    def abandon(self) -> None:
        """Ends a supervisor that was not released: it has done nothing yet."""
        if self._supervisor is not None and self._supervisor.stdin is not None:
            with contextlib.suppress(OSError):
                self._supervisor.stdin.close()
            self._supervisor.terminate()

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        return ""

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        return []

    @staticmethod
    def _get_job_id_from_submission_command(string: bytes | str) -> str:
        return ""
