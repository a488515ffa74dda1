"""A SLURM cluster as a place to run jobs, through submitit.

submitit pickles the one call, sends a batch script, starts as each rank and says who that rank is. Everything that it
would decide by itself (when a job is requeued, what a signal means, how a job stands) is segctl's:
`segctl.launch.slurm.leader` is the batch script, and `segctl.launch.slurm.look` asks SLURM.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from submitit.slurm import slurm

from segctl.errors import LaunchError, RunError
from segctl.launch import payload
from segctl.launch.backends import observe
from segctl.launch.environment import cleaned
from segctl.launch.local.supervisor import lock_run
from segctl.launch.plan import LaunchPlan
from segctl.launch.slurm.chain import slurm_dependency
from segctl.launch.slurm.plan import job_name, leader_command, script
from segctl.launch.slurm.sightings import cluster_name
from segctl.launch.submission import AttemptRecord, Submission
from segctl.runs.code import snapshot_lines
from segctl.runs.process import hostname, user_name
from segctl.runs.run import Run
from segctl.runs.state import FINAL

_SBATCH_SECONDS = 120.0


def submit(run: Run, plan: LaunchPlan) -> Submission:
    """Sends the run's next attempt to SLURM; the intent is recorded before, the job's number after.

    Args:
        run: Its directory must be visible from the nodes.
        plan: From `segctl.launch.slurm.plan`.

    Raises:
        LaunchError: SLURM does not take the job, or is not there. The run is then as it was before.
        RunError: Another command is submitting this run.
    """
    require()
    run = Run(run.path.resolve())
    run.logs.mkdir(exist_ok=True)
    with _alone(run):
        _refuse_a_second_job(run)
        record = AttemptRecord(run, plan)
        name = job_name(run.id, record.number)
        text = script(
            replace(plan, setup=(*plan.setup, *snapshot_lines(run))),
            name=name,
            log=str(run.logs / f"attempt{record.number}-leader.log"),
            dependency=slurm_dependency(Run(Path(plan.after))) if plan.after is not None else None,
            leader=leader_command(str(run.path), record.number),
        )
        record.write(host=hostname(), user=user_name(), cluster=cluster_name(), job_name=name)
        try:
            job = SegctlSlurmExecutor(run.submitit, text, plan.world_size).submit(payload.run_job, str(run.path))
        except LaunchError:
            with contextlib.suppress(OSError):
                record.take_back()
            raise
        record.write(host=hostname(), user=user_name(), cluster=cluster_name(), job_name=name, job_id=job.job_id)
    return Submission(run, plan.backend, record.number, job_id=job.job_id)


def require() -> None:
    """Raises LaunchError where there is no SLURM."""
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise LaunchError(
            "There is no SLURM on this machine: sbatch and srun were not found.",
            "Run segctl on a login node of the cluster, or use --on local.",
        )


def _refuse_a_second_job(run: Run) -> None:
    """What another command has submitted since this one looked."""
    if not run.submission_file.exists():
        return
    ((_, seen),) = observe([run], max_age=0.0)
    if seen.state not in FINAL:
        raise RunError(f"{run.id} is {seen.state}: {seen.why}.", f"Stop it first: segctl cancel {run.id}")


@contextlib.contextmanager
def _alone(run: Run) -> Iterator[None]:
    """Two commands that resume one run at once must not make two jobs of it."""
    lock = lock_run(run)
    if lock is None:
        raise RunError(f"{run.id} is being submitted by another command.", f"See 'segctl status {run.id}'.")
    try:
        yield
    finally:
        os.close(lock)


class SegctlSlurmExecutor(slurm.SlurmExecutor):
    """submitit's way to SLURM, with our batch script.

    Args:
        folder: ``RUN/submitit``.
        text: The batch script.
        ranks: How many processes make the call.
    """

    def __init__(self, folder: Path, text: str, ranks: int) -> None:
        super().__init__(folder)
        self._throttling = 0.0  # the scheduler is asked once for a run, or once for a sweep
        self._text, self._ranks = text, ranks

    def _num_tasks(self) -> int:
        return self._ranks

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        return self._text

    def _submit_command(self, command: str) -> slurm.SlurmJob[Any]:
        """Sends the script with an environment that other launchers have left nothing in.

        Raises:
            LaunchError: In sbatch's own words.
        """
        job: slurm.SlurmJob[Any] = slurm.SlurmJob(self.folder, sbatch(self._text), list(range(self._ranks)))
        job.paths.submission_file.write_text(self._text)
        return job


def sbatch(text: str, *options: str) -> str:
    """Sends a batch script; returns the job's number.

    Raises:
        LaunchError: In sbatch's own words.
    """
    try:
        done = subprocess.run(
            ["sbatch", "--parsable", *options],
            input=text,
            env=cleaned(os.environ),
            capture_output=True,
            text=True,
            timeout=_SBATCH_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise LaunchError(f"sbatch could not be run: {error}.", "Check that SLURM answers: sinfo") from error
    if done.returncode != 0:
        said = [line.removeprefix("sbatch: error: ") for line in done.stderr.strip().splitlines()]
        raise LaunchError(
            f"SLURM did not take the job: {'; '.join(said) or f'sbatch ended with {done.returncode}'}.".replace(
                "..", "."
            ),
            "The batch script is shown by --dry-run.",
        )
    return done.stdout.strip().partition(";")[0]
