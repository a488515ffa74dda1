"""A sweep on this machine: its runs join the queue one after another, in their order."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from segctl.errors import SegctlError
from segctl.launch.local import executor as local
from segctl.launch.local.watch import cancel_all
from segctl.launch.plan import LaunchPlan
from segctl.runs.records import read
from segctl.runs.run import Run
from segctl.runs.sweeps import Sweep


def submit(sweep: Sweep, plan: LaunchPlan) -> None:
    """Submits all runs of a sweep; whatever ends that early, Ctrl-C too, ends those that were submitted already.

    Raises:
        LaunchError: One could not be started.
    """
    submitted: list[Run] = []
    try:
        for run in sweep.runs:
            local.submit(run, plan)
            submitted.append(run)
    except BaseException:
        _take_back(submitted)
        raise


def _take_back(runs: Sequence[Run]) -> None:
    with contextlib.suppress(SegctlError):
        cancel_all([(run, read(run)) for run in runs])
    for run in runs:
        run.submission_file.unlink(missing_ok=True)
