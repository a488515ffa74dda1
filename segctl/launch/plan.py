"""What will be started, decided before anything is: a pure function of the configuration and the machine."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from segctl.config.time_limit import parse_time_limit
from segctl.errors import LaunchError
from segctl.launch.machine import Gpu, Machine

if TYPE_CHECKING:
    from segctl.config.schema import Config, Launch

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class LaunchPlan:
    """How a job is carried out.

    Attributes:
        backend: Who carries it out, a key of `segctl.launch.backends`.
        nodes: Machines.
        procs_per_node: Processes (ranks) on each.
        device: ``cuda`` (one GPU per process) or ``cpu``.
        gpus_per_node: GPUs on each machine; 0 for ``cpu``.
        threads_per_proc: Threads of each process's numerical libraries.
        gpus: The GPUs the job may choose from as they become free; on one's own machine those that are visible to the
            user.
        cpu_slots: How many CPU jobs may run at once on one's own machine.
        environment: Variables that each process is given where the user has not set them.
        command: What each process executes; ``RUN`` stands for the run's directory.
        time_limit: Seconds a job may run before it is ended; None without a limit, or with one of the scheduler's.
        save_before: Seconds before the time limit at which the processes are asked to save.
        requeue: Whether the job goes on by itself after its time limit or a preemption.
        max_restarts: How often at most.
        hang_timeout: Seconds without progress after which its processes end themselves; 0: never.
        sbatch: Options of sbatch, on SLURM; True for one that has no value.
        setup: Shell lines before the job's first process, on SLURM.
        after: Path of a run that has to complete first; a job whose predecessor fails never starts.
        sweep: Id of the sweep that the run belongs to; empty for one that is alone.
        max_running: How many runs of the sweep may run at once; None without such a limit.
    """

    backend: str
    nodes: int
    procs_per_node: int
    device: str
    gpus_per_node: int
    threads_per_proc: int
    gpus: tuple[Gpu, ...] = ()
    cpu_slots: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    time_limit: int | None = None
    save_before: int = 120
    requeue: bool = True
    max_restarts: int = 100
    hang_timeout: float = 900.0
    sbatch: Mapping[str, str | bool] = field(default_factory=dict)
    setup: tuple[str, ...] = ()
    after: str | None = None
    sweep: str = ""
    max_running: int | None = None

    @property
    def world_size(self) -> int:
        return self.nodes * self.procs_per_node

    def as_record(self) -> dict[str, Any]:
        """The plan as JSON has it."""
        gpus = [{"token": gpu.token, "identity": gpu.identity} for gpu in self.gpus]
        plain = {"environment": dict(self.environment), "sbatch": dict(self.sbatch)}
        return {**vars(self), **plain, "gpus": gpus, "command": list(self.command), "setup": list(self.setup)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> LaunchPlan:
        gpus = tuple(Gpu(gpu["token"], gpu["identity"]) for gpu in record["gpus"])
        tuples = {name: tuple(record.get(name, ())) for name in ("command", "setup")}
        # Code that was frozen with a job may be older than the command that resumes it.
        known = {key: value for key, value in record.items() if key in cls.__dataclass_fields__}
        return cls(**{**known, **tuples, "gpus": gpus})


def make_plan(config: Config, machine: Machine) -> LaunchPlan:
    """Decides how a job is carried out.

    Args:
        config: The resolved configuration; only its section `launch` counts.
        machine: What this machine has to offer, from `segctl.launch.machine.read`.

    Raises:
        LaunchError: There is no such place to run, or it does not have what is asked for.
    """
    from segctl.launch.backends import backend

    return backend(config.launch.on).plan(config.launch, machine)


def plan_local(request: Launch, machine: Machine) -> LaunchPlan:
    """One job on this machine: a process per GPU, or processes on the CPU.

    Raises:
        LaunchError: More nodes, GPUs or processes per GPU than there are.
    """
    if request.nodes > 1:
        raise LaunchError(f"{request.nodes} nodes were asked for, but this machine is one.", "Leave --nodes out.")
    gpus = _gpus_wanted(request, machine)
    procs = gpus or request.procs or 1
    threads = machine.threads or max(1, machine.cores // procs)
    environment = thread_environment(threads)
    # All processes are on this machine: gloo must not choose an address of a network that may go down, or be filtered.
    environment["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    return LaunchPlan(
        backend="local",
        nodes=1,
        procs_per_node=procs,
        device="cuda" if gpus else "cpu",
        gpus_per_node=gpus,
        threads_per_proc=threads,
        gpus=machine.gpus if gpus else (),
        cpu_slots=machine.cpu_slots,
        environment=environment,
        command=task_command("RUN/submitit"),
        **interruptions(request),
    )


def thread_environment(threads: int) -> dict[str, str]:
    """Variables that give each process's numerical libraries so many threads."""
    # Threads that spin for long while they wait take the cores from other jobs, and beside one train five times slower;
    # threads that sleep at once wake too late for small layers, which halves the speed of a job alone.
    waiting = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}
    return {**{name: str(threads) for name in _THREAD_VARIABLES}, **waiting}


def interruptions(request: Launch) -> dict[str, Any]:
    """The fields of a `LaunchPlan` that say how long a job may run, or hang, and how it goes on.

    Raises:
        LaunchError: The job would have to save before it has begun.
    """
    limit = parse_time_limit(request.time) if request.time is not None else None
    if limit is not None and request.save_before >= limit:
        raise LaunchError(
            f"A job that may run for {limit} s (launch.time) cannot save {request.save_before} s before that "
            "(launch.save_before).",
            "Raise launch.time or lower launch.save_before.",
        )
    return {
        "time_limit": limit,
        "save_before": request.save_before,
        "requeue": request.requeue,
        "max_restarts": request.max_restarts,
        "hang_timeout": request.hang_timeout,
    }


def _gpus_wanted(request: Launch, machine: Machine) -> int:
    visible = len(machine.gpus)
    if request.gpus is None:
        if request.procs is None or visible == 0:
            return visible
        if request.procs > visible:
            raise LaunchError(
                f"{request.procs} processes were asked for, but {_count(visible)}, and each process needs its own.",
                f"Use --procs {visible}, or --gpus 0 to run on the CPU.",
            )
        return request.procs
    if request.gpus > visible:
        reason = f": {machine.no_gpu_reason}" if visible == 0 and machine.no_gpu_reason else ""
        way_out = f"Ask for {visible} at most, or use" if visible else "Use"
        raise LaunchError(
            f"{_plural(request.gpus)} asked for, but {_count(visible)}{reason}.",
            f"{way_out} --gpus 0 to run on the CPU.",
        )
    if request.gpus and request.procs not in (None, request.gpus):
        raise LaunchError(
            f"{_plural(request.gpus)} asked for with {request.procs} processes, but each process drives one GPU.",
            f"Leave --procs out, or use --procs {request.gpus}.",
        )
    return request.gpus


def _plural(gpus: int) -> str:
    return "1 GPU was" if gpus == 1 else f"{gpus} GPUs were"


def _count(gpus: int) -> str:
    return f"only {gpus} {'is' if gpus == 1 else 'are'} visible" if gpus else "no GPU is visible"


def task_command(folder: str) -> tuple[str, ...]:
    """What one process executes: submitit's entry, which loads the pickled call from `folder` and makes it."""
    return python_module("submitit.core._submit", folder)


def python_module(module: str, *arguments: str) -> tuple[str, ...]:
    """``python -m module``, but a ``queue.py`` in the user's working directory does not shadow Python's own."""
    if sys.version_info >= (3, 11):
        return (sys.executable, "-u", "-P", "-m", module, *arguments)
    code = (
        f"import sys; del sys.path[0]; import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    return (sys.executable, "-u", "-c", code, *arguments)
