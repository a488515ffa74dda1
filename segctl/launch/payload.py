"""The one call that is pickled: it holds nothing but a run's directory, and everything the job needs is in there."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from segctl.runs import error_record
from segctl.runs.code import refuse_other_code
from segctl.runs.files import read_json
from segctl.runs.run import Run

_WITHOUT_TORCH = {"download": "segctl.download.job"}
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


def run_job(run_dir: str) -> None:
    """Runs the job that `run_dir` describes, as one of its ranks.

    Who this rank is (submitit knows, whatever started it) goes into the environment by the names that torchrun made
    usual: RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE.
    """
    stop = listen()
    import submitit

    environment = submitit.JobEnvironment()
    os.environ.update(
        RANK=str(environment.global_rank),
        WORLD_SIZE=str(environment.num_tasks),
        LOCAL_RANK=str(environment.local_rank),
        LOCAL_WORLD_SIZE=str(environment.num_tasks // environment.num_nodes),
    )
    try:
        refuse_other_code(Run(Path(run_dir)))
        kind = (read_json(Run(Path(run_dir)).run_file) or {}).get("kind", "")
        importlib.import_module(_WITHOUT_TORCH.get(kind, "segctl_jobs.main")).run(Path(run_dir), stop)
    except Exception as error:
        # The job records its own errors and exits; what arrives here kept it from doing that, such as a broken torch.
        with contextlib.suppress(OSError):
            error_record.write(Run(Path(run_dir)), error, rank=environment.global_rank)
        raise
    finally:
        # Python gives signals their default back before it ends: a second one would kill a rank that has saved.
        for signum in STOP_SIGNALS:
            signal.signal(signum, signal.SIG_IGN)


def listen() -> Callable[[], str | None]:
    """From now on a signal to stop only sets a flag, and Ctrl-C does nothing.

    Returns:
        A function that says the name of the first such signal, or None.
    """
    received: list[str] = []

    def note(signum: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(signum).name)

    for signum in STOP_SIGNALS:
        signal.signal(signum, note)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A forked data worker must end when it is told to: it has nobody who would ask for its flag.
    os.register_at_fork(after_in_child=_forget)
    return lambda: received[0] if received else None


def _forget() -> None:
    for signum in STOP_SIGNALS:
        signal.signal(signum, signal.SIG_DFL)
