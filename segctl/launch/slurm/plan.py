"""A job on a SLURM cluster, decided before anything is submitted: pure functions of the configuration."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from segctl.errors import LaunchError
from segctl.launch.plan import LaunchPlan, interruptions, python_module, task_command, thread_environment
from segctl.runs.attempt import Attempt
from segctl.runs.run import Run

if TYPE_CHECKING:
    from segctl.config.schema import Launch


_TOGETHER_SECONDS = 25  # ranks wait for each other before they end; after that only interpreters are torn down


def plan_slurm(request: Launch) -> LaunchPlan:
    """A process per GPU, or processes on the CPU, on each of `nodes` nodes.

    Raises:
        LaunchError: GPUs and processes contradict each other, or the time limit leaves no time to train.
    """
    gpus = request.gpus or 0
    if gpus and request.procs not in (None, gpus):
        raise LaunchError(
            f"{gpus} GPUs per node were asked for with {request.procs} processes, but each process drives one GPU.",
            f"Leave --procs out, or use --procs {gpus}.",
        )
    procs = gpus or request.procs or 1
    limits = interruptions(request)
    cores = request.slurm.cpus_per_gpu
    return LaunchPlan(
        backend="slurm",
        nodes=request.nodes,
        procs_per_node=procs,
        device="cuda" if gpus else "cpu",
        gpus_per_node=gpus,
        threads_per_proc=cores or 1,
        environment=thread_environment(cores or 1),
        command=(*shlex.split(request.slurm.container or ""), *task_command("RUN/submitit")),
        sbatch=_sbatch(request, procs, gpus, limits["time_limit"]),
        # What the user's shell has must not go before what the profile says for this cluster.
        setup=(
            *(f"export {name}={shlex.quote(value)}" for name, value in request.slurm.environment.items()),
            *request.slurm.setup,
        ),
        **limits,
    )


def _sbatch(request: Launch, procs: int, gpus: int, time_limit: int | None) -> dict[str, str | bool]:
    """The options of sbatch, in the order of its manual page's subjects: what, where, how much, when it ends."""
    slurm = request.slurm
    wanted: Mapping[str, Any] = {
        "partition": slurm.partition,
        "account": slurm.account,
        "qos": slurm.qos,
        "constraint": slurm.constraint,
        "nodes": request.nodes,
        "ntasks-per-node": procs,
        "gpus-per-node": (f"{slurm.gpu_type}:{gpus}" if slurm.gpu_type else gpus) if gpus else None,
        "cpus-per-task": slurm.cpus_per_gpu,
        "mem": slurm.memory,
        "time": request.time,
        # The leader gets it and passes it on; SLURM may send it up to a minute early.
        "signal": f"B:USR2@{request.save_before}" if time_limit is not None else None,
        # Or no-requeue: what the cluster would do otherwise is the administrator's choice.
        "requeue" if request.requeue else "no-requeue": True,
        "open-mode": "append",
        "kill-on-invalid-dep": "yes",
    }
    given = {name: value for name, value in slurm.options.items() if value is not False}
    options = {**{name: value for name, value in wanted.items() if value is not None}, **given}
    return {name: value if isinstance(value, bool) else str(value) for name, value in options.items()}


def job_name(run_id: str, number: int) -> str:
    """The job's name on SLURM, of one attempt alone: by it a job is found whose number was not recorded."""
    return f"segctl-{run_id}-attempt{number}"


def array_name(sweep_id: str, number: int) -> str:
    """The same of a job array of a sweep, which all its elements share."""
    return f"segctl-{sweep_id}-array{number}"


def script(
    plan: LaunchPlan,
    *,
    name: str,
    log: str,
    dependency: str | None,
    leader: tuple[str, ...],
    array: str | None = None,
) -> str:
    """The text that sbatch gets: options, the user's set-up lines, and segctl's leader in place of the shell.

    Args:
        plan: The job's.
        name: From `job_name`.
        log: The file of the batch script's own output.
        dependency: As sbatch takes it, such as ``afterok:123``.
        leader: The command of the batch step.
        array: The elements as sbatch takes them, such as ``0-9%4``; None for a job of its own.
    """
    options = {"job-name": name, "output": log, **({"array": array} if array is not None else {}), **plan.sbatch}
    if dependency is not None:
        options["dependency"] = dependency
    lines = ["#!/bin/bash", *(_option(option, value) for option, value in options.items()), "", *plan.setup]
    # In place of the shell: what SLURM sends to the batch step reaches the leader.
    return "\n".join([*lines, f"exec {shlex.join(leader)}", ""])


def preview(plan: LaunchPlan) -> str:
    """The batch script of a run that has no directory yet: ``RUN`` stands for its path, and after that its id."""
    return script(
        plan,
        name=job_name("RUN", 1),
        log="RUN/logs/attempt1-leader.log",
        dependency=f"afterok:(the job of {plan.after})" if plan.after is not None else None,
        leader=leader_command("RUN", 1),
    )


def _option(name: str, value: str | bool) -> str:
    return f"#SBATCH --{name}" if value is True else f"#SBATCH --{name}={shlex.quote(str(value))}"


def leader_command(run: str, number: int) -> tuple[str, ...]:
    return python_module("segctl.launch.slurm.leader", run, str(number))


def element_command(sweep: str, first: int) -> tuple[str, ...]:
    """The leader of an array's elements: each finds its run in the sweep's table, from place `first` on."""
    return python_module("segctl.launch.slurm.leader", "--sweep", sweep, str(first))


def srun_command(run: Run, plan: LaunchPlan, this: Attempt) -> tuple[str, ...]:
    """What the leader starts: the plan's command once per rank, which ends as a whole when one rank fails."""
    rank_log = run.log_file(this.number, 0).with_name(f"attempt{this.number}-rank%t.log")
    options = [
        "--kill-on-bad-exit=1",
        f"--wait={_TOGETHER_SECONDS}",  # one that leaves with exit code 0 in the middle of the work is no bad exit
        "--unbuffered",
        "--open-mode=append",
        "--input=none",
        f"--output={rank_log}",
        f"--ntasks={plan.world_size}",
        f"--ntasks-per-node={plan.procs_per_node}",
    ]
    if "cpus-per-task" in plan.sbatch:  # since SLURM 22.05 srun does not take it from the allocation
        options.append(f"--cpus-per-task={plan.sbatch['cpus-per-task']}")
    return ("srun", *options, *(part.replace("RUN/", f"{run.path}/", 1) for part in plan.command))
