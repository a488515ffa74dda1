"""Where a job begins on its node: one call per process, with nothing but the run directory."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from segctl.runs import code, error_record, fence
from segctl.runs.run import Run
from segctl_jobs import watchdog

if TYPE_CHECKING:
    from segctl.config.schema import Config

EXIT_STOPPED = 75  # EX_TEMPFAIL: stopped as asked, with a checkpoint to go on from
EXIT_SUPERSEDED = 76  # a later start of the run has begun

log = logging.getLogger(__name__)


def run(run_dir: Path, stop: Callable[[], str | None]) -> None:
    """Runs the job that `run_dir` describes, as one of its processes.

    Args:
        run_dir: The run's directory, complete with run.json and config.yaml.
        stop: Says the name of the signal that asks this process to stop, or None.

    Raises:
        SystemExit: `EXIT_STOPPED` when the job stopped as asked; 1 when it failed, with the reason in
        errors/rankN.json. One that hangs, or that a later start of the run has taken the place of, leaves by
        ``os._exit``: see `segctl.runs.fault.EXIT_HUNG`, `EXIT_SUPERSEDED`.
    """
    this = Run(run_dir)
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s rank {rank} %(levelname)s %(message)s",
        stream=sys.stderr,
        force=True,
    )
    faulthandler.enable()  # a crash in native code leaves the stacks in the log
    try:
        finished = _run_job(this, rank, size, stop)
    except fence.SupersededError as error:
        log.error("this process ends: %s", error)
        os._exit(EXIT_SUPERSEDED)  # what it still holds may wait for peers that are gone
    except Exception as error:
        log.exception("this process failed")
        error_record.write(this, error, rank=rank)
        sys.exit(1)
    if not finished:
        sys.exit(EXIT_STOPPED)


def _run_job(run: Run, rank: int, size: int, stop: Callable[[], str | None]) -> bool:
    if rank == 0:
        fence.claim(run, job_id=os.environ.get("SLURM_JOB_ID", ""))
        _say_which_code(run)
    # Imported here: a node on which torch itself is broken still leaves its error in the run directory.
    from segctl.config.load import load
    from segctl.runs.files import read_json

    config = load(run.config_file)
    kind = (read_json(run.run_file) or {}).get("kind")
    attempts = (read_json(run.submission_file) or {}).get("attempts") or [{}]
    # `segctl resume` may have planned otherwise than config.yaml.
    hang_timeout = float(attempts[-1].get("plan", {}).get("hang_timeout", config.launch.hang_timeout))
    with watchdog.watching(run, rank=rank, world_size=size, hang_timeout=hang_timeout):
        try:
            return _do(run, kind, config, stop, watchdog.collective_timeout(hang_timeout))
        except Exception as error:
            from segctl_jobs.failures import explained

            training = kind == "train" and watchdog.doing() != "evaluating"
            better = explained(error, run, config, size, training=training)
            if better is error:
                raise
            raise better from error


def _say_which_code(run: Run) -> None:
    try:
        which, changes = code.told(run)
    except Exception:  # whatever the environment's metadata hold: it is only said
        log.exception("what code this is cannot be said")
        return
    log.info("%s", which)
    for change in changes:
        log.warning("the code is not what it was at submission: %s", change)


def _do(
    run: Run, kind: str | None, config: Config, stop: Callable[[], str | None], collective_timeout: timedelta
) -> bool:
    from segctl.errors import RunError
    from segctl_jobs import distributed, evaluate, train

    if kind is None:
        raise RunError(f"{run.run_file} is missing or damaged.", "Submit the run anew.")
    jobs = {"train": train.run, "eval": evaluate.run}
    world = distributed.connect(run, patience=collective_timeout)
    finished: bool = jobs[kind](run, config, world, stop)
    # All end together: a launcher takes the end of one as a sign that the others hang, and rank 0 may still be writing.
    world.barrier()
    distributed.disconnect()
    return finished
