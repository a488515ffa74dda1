"""A short job on as many nodes as a run would have, which finds out whether they see what a run needs.

Each node first leaves a mark in a folder beside the runs (the shell does, so that a Python which does not start is told
from a folder that is not there), then `segctl.launch.slurm.probe` writes what it finds.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segctl.errors import LaunchError
from segctl.launch.plan import LaunchPlan, python_module, task_command
from segctl.launch.rank_files import last_line
from segctl.launch.slurm.commands import environment, said_by
from segctl.launch.slurm.partitions import duration
from segctl.launch.slurm.words import waits
from segctl.runs.files import read_json

__all__ = ["NodeWord", "ProbeResult", "probe", "script"]

LONGEST = 300  # seconds the job may run
ASK_EVERY = 10.0
FILE_SECONDS = 35.0  # network file systems show another machine's new files this much later
# What a run's job has these for, a probe does not do.
_NOT_FOR_A_PROBE = ("signal", "requeue", "no-requeue", "open-mode", "ntasks-per-node", "cpus-per-task", "time")


@dataclass(frozen=True)
class NodeWord:
    """What came from one node.

    Attributes:
        name: SLURM's.
        seen: It has written into the folder.
        found: What `segctl.launch.probe.look` gave; None where Python left no word.
        last_line: The last that was said there.
    """

    name: str
    seen: bool = False
    found: Mapping[str, Any] | None = None
    last_line: str = ""


@dataclass(frozen=True)
class ProbeResult:
    """How the probe ended.

    Attributes:
        job_id: Its number.
        state: SLURM's word; empty where SLURM has forgotten the job already.
        exit_code: ``code:signal`` of the batch script, as SLURM has it.
        started: The batch script has written into the folder.
        last_line: The last that the batch script said.
        nodes: What came from each node.
    """

    job_id: str
    state: str = ""
    exit_code: str = ""
    started: bool = False
    last_line: str = ""
    nodes: tuple[NodeWord, ...] = field(default_factory=tuple)


def probe(
    plan: LaunchPlan, runs_dir: Path, longest: int = LONGEST, on_progress: Callable[[str], None] = lambda words: None
) -> ProbeResult:
    """Submits the job and waits for its end; Ctrl-C cancels it.

    Args:
        plan: A run's.
        runs_dir: The folder of the runs, which is there.
        longest: Seconds the job may run.
        on_progress: Is told how it goes, in a few words.

    Raises:
        LaunchError: SLURM does not take the job.
    """
    folder = Path(tempfile.mkdtemp(prefix=".probe-", dir=runs_dir.resolve()))
    try:
        name = f"segctl-probe-{folder.name.removeprefix('.probe-')}"
        with _waiting(script(plan, folder, name, min(longest, LONGEST)), name) as waiting:
            job_id = _number_of(waiting)
            _wait(waiting, job_id, folder, on_progress)
        return _result(job_id, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def script(plan: LaunchPlan, folder: Path, name: str, seconds: int) -> str:
    """The job's batch script: what `plan` asks of sbatch, with one task on each node."""
    options = {name: value for name, value in plan.sbatch.items() if name not in _NOT_FOR_A_PROBE}
    cores = int(plan.sbatch.get("cpus-per-task", 1)) * plan.procs_per_node
    options = {
        **options,
        "job-name": name,
        "output": str(folder / "batch.log"),
        "time": duration(seconds),
        "ntasks-per-node": "1",
        "cpus-per-task": str(cores),
        "no-requeue": True,
    }
    container = plan.command[: -len(task_command(""))]
    look = (*container, *python_module("segctl.launch.slurm.probe", str(folder)))
    task = ("sh", "-c", 'echo > "$1/$SLURMD_NODENAME.seen"; shift; exec "$@"', "sh", str(folder), *look)
    srun = ("srun", "--kill-on-bad-exit=0", "--input=none", f"--output={folder}/%N.log", f"--cpus-per-task={cores}")
    return "\n".join(
        [
            "#!/bin/bash",
            *(
                f"#SBATCH --{name}" + ("" if value is True else f"={shlex.quote(str(value))}")
                for name, value in options.items()
            ),
            f"echo > {shlex.quote(str(folder / 'started'))}",
            *plan.setup,
            *(f"export {name}={shlex.quote(value)}" for name, value in plan.environment.items() if name.isidentifier()),
            shlex.join([*srun, *task]),
            f"echo > {shlex.quote(str(folder / 'ended'))}",
            "",
        ]
    )


@contextlib.contextmanager
def _waiting(text: str, name: str) -> Iterator[subprocess.Popen[str]]:
    """sbatch, which sends the job and waits for its end. An exception in the block cancels the job."""
    try:
        waiting = subprocess.Popen(
            ["sbatch", "--parsable", "--wait"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            start_new_session=True,  # Ctrl-C must not end it between sending the job and telling its number
        )
    except OSError as error:
        raise LaunchError(f"sbatch could not be run: {error.strerror}.") from error
    assert waiting.stdin is not None
    try:
        with contextlib.suppress(BrokenPipeError), waiting.stdin as pipe:
            pipe.write(text)
        yield waiting
    except BaseException:
        said_by(["scancel", f"--name={name}"])
        _end(waiting)
        said_by(["scancel", f"--name={name}"])  # what sbatch was just sending
        raise
    _end(waiting)


def _end(waiting: subprocess.Popen[str]) -> None:
    waiting.terminate()
    waiting.wait()


def _number_of(waiting: subprocess.Popen[str]) -> str:
    assert waiting.stdout is not None
    assert waiting.stderr is not None
    number = waiting.stdout.readline().strip().partition(";")[0]
    if number:
        return number
    said = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in waiting.stderr.read().splitlines()]
    raise LaunchError(f"SLURM did not take the probe: {'; '.join(said) or 'sbatch said nothing'}.")


def _wait(waiting: subprocess.Popen[str], job_id: str, folder: Path, on_progress: Callable[[str], None]) -> None:
    """Until the script has reached its end or sbatch says that the job is over, which it notices late."""
    asked = 0.0
    while waiting.poll() is None and not (folder / "ended").exists():
        if time.monotonic() - asked > ASK_EVERY:
            asked = time.monotonic()
            state, _, reason = said_by(["squeue", "--noheader", f"--jobs={job_id}", "--format=%T|%r"]).out.partition(
                "|"
            )
            how = waits(reason.strip(), job_id) if state.strip() == "PENDING" else "runs"
            on_progress(f"Probe job {job_id} {how}")
        time.sleep(0.2)


def _result(job_id: str, folder: Path) -> ProbeResult:
    shown = said_by(["scontrol", "show", "job", job_id, "--oneliner"]).out
    facts = dict(re.findall(r"(\w+)=(\S+)", shown))
    names = said_by(["scontrol", "show", "hostnames", facts["NodeList"]]).out.split() if _has_nodes(facts) else []
    deadline = time.monotonic() + FILE_SECONDS
    while not _complete(folder, names) and time.monotonic() < deadline:
        time.sleep(0.5)
    names = names or sorted(path.stem for path in folder.glob("*.seen"))
    return ProbeResult(
        job_id,
        state=facts.get("JobState", ""),
        exit_code=facts.get("ExitCode", ""),
        started=(folder / "started").exists(),
        last_line=last_line(folder / "batch.log"),
        nodes=tuple(
            NodeWord(
                name,
                (folder / f"{name}.seen").exists(),
                read_json(folder / f"{name}.json"),
                last_line(folder / f"{name}.log"),
            )
            for name in names
        ),
    )


def _has_nodes(facts: Mapping[str, str]) -> bool:
    return facts.get("NodeList", "(null)") != "(null)"


def _complete(folder: Path, names: list[str]) -> bool:
    """Whether all has come that can be expected. Listing the folder makes a network file system look again."""
    there = set(os.listdir(folder))
    return "started" in there and all(f"{name}.seen" in there for name in names)
