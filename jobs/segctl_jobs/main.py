"""Where a job begins on its node: one call per process, with nothing but the run directory."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from segctl.runs import error_record
from segctl.runs.run import Run

EXIT_STOPPED = 75  # EX_TEMPFAIL: stopped as asked, with a checkpoint to go on from


def run(run_dir: Path, stop: Callable[[], str | None]) -> None:
    """Runs the job that `run_dir` describes, as one of its processes.

    Args:
        run_dir: The run's directory, complete with run.json and config.yaml.
        stop: Says the name of the signal that asks this process to stop, or None.

    Raises:
        SystemExit: `EXIT_STOPPED` when the job stopped as asked; 1 when it failed, with the reason in
        errors/rankN.json.
    """
    this = Run(run_dir)
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s rank {os.environ.get('RANK', 0)} %(levelname)s %(message)s",
        stream=sys.stderr,
        force=True,
    )
    try:
        finished = _run_job(this, stop)
    except Exception as error:
        logging.getLogger(__name__).exception("this process failed")
        error_record.write(this, error, rank=int(os.environ.get("RANK", 0)))
        sys.exit(1)
    if not finished:
        sys.exit(EXIT_STOPPED)


def _run_job(run: Run, stop: Callable[[], str | None]) -> bool:
    # Imported here: a node on which torch itself is broken still leaves its error in the run directory.
    from segctl.config.load import load
    from segctl.errors import RunError
    from segctl.runs.files import read_json
    from segctl_jobs import distributed, evaluate, train

    record = read_json(run.run_file)
    if record is None:
        raise RunError(f"{run.run_file} is missing or damaged.", "Submit the run anew.")
    jobs = {"train": train.run, "eval": evaluate.run}
    world = distributed.connect(run)
    finished: bool = jobs[record["kind"]](run, load(run.config_file), world, stop)
    distributed.disconnect()
    return finished
