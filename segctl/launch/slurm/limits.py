"""What a cluster's partitions allow, beside what a job asks for: before it is submitted, not after days in the queue.

SLURM itself takes a job that no node can ever run, and lets it wait for good. What is decided stands in pure functions
of `sinfo`'s answer; `refuse` asks it, and then lets sbatch try the request (``--test-only``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from segctl.errors import LaunchError, did_you_mean, listing
from segctl.launch.plan import LaunchPlan
from segctl.launch.slurm.commands import Said, said_by
from segctl.launch.slurm.partitions import (
    NodeGroup,
    Partition,
    duration,
    megabytes,
    no_answer,
    read_partitions,
    size,
)

__all__ = ["Problem", "Request", "problems", "refuse", "try_out", "without_time_limit"]


@dataclass(frozen=True)
class Request:
    """What a job asks for; None: what the cluster gives by itself.

    Attributes:
        partitions: Names; SLURM takes the first that can start the job. None: the cluster's default.
        nodes: How many.
        cpus: On each, of all processes.
        memory: MB on each.
        gpus: On each.
        gpu_type: Of these; empty: any.
        seconds: Time limit.
        procs: Processes on each.
    """

    partitions: tuple[str, ...] = ()
    nodes: int = 1
    cpus: int = 1
    memory: int | None = None
    gpus: int = 0
    gpu_type: str = ""
    seconds: int | None = None
    procs: int = 1

    @classmethod
    def of(cls, plan: LaunchPlan) -> Request:
        """What the options of sbatch in a plan amount to."""
        options = {name: str(value) for name, value in plan.sbatch.items()}
        gpu_type, _, gpus = options.get("gpus-per-node", "0").rpartition(":")
        return cls(
            partitions=tuple(name for name in options.get("partition", "").split(",") if name),
            nodes=plan.nodes,
            cpus=int(options.get("cpus-per-task", 1)) * plan.procs_per_node,
            memory=megabytes(options["mem"]) if "mem" in options else None,
            gpus=int(gpus),
            gpu_type=gpu_type,
            seconds=plan.time_limit,
            procs=plan.procs_per_node,
        )


@dataclass(frozen=True)
class Problem:
    """Why a partition cannot run a job, and the way out."""

    message: str
    hint: str = ""


def problems(partitions: Mapping[str, Partition], request: Request) -> list[Problem]:
    """Why the job cannot run, a sentence for each limit; none where one of its partitions allows it."""
    names = request.partitions or tuple(name for name, partition in partitions.items() if partition.default)
    if not names:
        return [Problem("No partition is named, and the cluster has no default.", _choose(partitions))]
    for name in names:
        if name not in partitions:
            near = did_you_mean(name, partitions)
            message = f"launch.slurm.partition: the cluster has no partition {name!r}. {near}".strip()
            return [Problem(message, f"There are {listing(partitions)}.")]
    found = {name: _problems(partitions[name], request) for name in names}
    if not all(found.values()):
        return []
    return [_with_alternatives(problem, partitions, request) for problem in found[names[0]]]


def _problems(partition: Partition, request: Request) -> list[Problem]:
    name = partition.name
    if partition.state != "up":
        takes = "starts no jobs" if partition.state == "down" else "takes no jobs"
        return [Problem(f"Partition {name} {takes}: its state is {partition.state}.")]
    found = []
    if request.seconds is not None and partition.seconds is not None and request.seconds > partition.seconds:
        longest = duration(partition.seconds)
        found.append(
            Problem(
                f"launch.time: {duration(request.seconds)} is more than partition {name} allows, {longest}.",
                f"Use --time {longest}: the job saves before that and goes on by itself.",
            )
        )
    if partition.max_nodes is not None and request.nodes > partition.max_nodes:
        most = partition.max_nodes
        found.append(
            Problem(
                f"launch.nodes: {request.nodes} is more than partition {name} allows, {most}.", f"Use --nodes {most}."
            )
        )
    return found + _of_nodes(partition, request)


def _of_nodes(partition: Partition, request: Request) -> list[Problem]:
    """What no node of the partition has, or too few of its nodes."""
    name, groups = partition.name, partition.groups
    if not groups:
        return [Problem(f"Partition {name} has no nodes.")]
    found = []
    gpus = max(_gpus(group, request.gpu_type) for group in groups)
    if request.gpus > gpus:
        kind = f"{request.gpu_type} " if request.gpu_type else ""
        there = f"a node of partition {name} has {gpus}" if gpus else f"no node of partition {name} has any"
        found.append(
            Problem(
                f"launch.gpus: {_were(request.gpus, f'{kind}GPU', ' per node')}, but {there}.{_types(groups, gpus)}",
                f"Use --gpus {gpus}." if gpus else "",
            )
        )
    cpus = max(group.cpus for group in groups)
    if request.cpus > cpus:
        found.append(_too_many_cpus(request, name, cpus))
    memory = max(group.memory for group in groups)
    if request.memory is not None and request.memory > memory:
        found.append(
            Problem(
                f"launch.slurm.memory: {size(request.memory)} per node were asked for, but a node of partition {name} "
                f"has {size(memory)} at most."
            )
        )
    fitting = sum(group.count for group in groups if _fits(group, request))
    if not found and fitting < request.nodes:
        found.append(
            Problem(
                f"launch.nodes: {_were(request.nodes, 'node')}, but {_so_few(name, fitting, request)}.",
                f"Use --nodes {fitting}." if fitting else "",
            )
        )
    return found


def _too_many_cpus(request: Request, partition: str, most: int) -> Problem:
    """In the words of what was given: CPUs, or how many processes share them."""
    limit = f"but a node of partition {partition} has {most} at most."
    if request.procs == 1:
        return Problem(f"launch.slurm.cpus_per_gpu: {_were(request.cpus, 'CPU', ' per node')}, {limit}")
    each = request.cpus // request.procs
    flag, what = ("gpus", "GPUs") if request.gpus else ("procs", "processes")
    keys = f"launch.{flag}" if each == 1 else f"launch.{flag} and launch.slurm.cpus_per_gpu"
    cpus = "1 CPU" if each == 1 else f"{each} CPUs"
    return Problem(
        f"{keys}: {request.procs} {what} per node with {cpus} each need {request.cpus} CPUs, {limit}",
        f"Use --{flag} {most // each}." if most >= each else "",
    )


def _were(count: int, what: str, where: str = "") -> str:
    return f"1 {what}{where} was asked for" if count == 1 else f"{count} {what}s{where} were asked for"


def _so_few(partition: str, fitting: int, request: Request) -> str:
    asked = [f"{request.gpus} GPUs"] if request.gpus else []
    asked += [f"{request.cpus} CPUs"] if request.cpus > 1 else []
    asked += [size(request.memory)] if request.memory is not None else []
    if not asked:
        return f"partition {partition} has only {fitting}"
    nodes = f"only {fitting} of partition {partition} have" if fitting > 1 else f"only one of partition {partition} has"
    return f"{nodes if fitting else f'none of partition {partition} has'} {listing(asked)}"


def _fits(group: NodeGroup, request: Request) -> bool:
    enough_memory = request.memory is None or group.memory >= request.memory
    return enough_memory and group.cpus >= request.cpus and _gpus(group, request.gpu_type) >= request.gpus


def _gpus(group: NodeGroup, kind: str) -> int:
    return group.gpus.get(kind, 0) if kind else sum(group.gpus.values())


def _types(groups: Iterable[NodeGroup], there: int) -> str:
    known = sorted({kind for group in groups for kind in group.gpus if kind})
    return f" There, they are of type {' or '.join(known)}." if known and not there else ""


def _with_alternatives(problem: Problem, partitions: Mapping[str, Partition], request: Request) -> Problem:
    """Names the partitions that would do."""
    others = [name for name, partition in partitions.items() if not _problems(partition, request)]
    if not others:
        return problem
    return replace(problem, hint=f"{problem.hint} With --partition {' or '.join(others)} it would run.".strip())


def _choose(partitions: Mapping[str, Partition]) -> str:
    return f"Use --partition with one of {listing(partitions)}." if partitions else "Ask the cluster's administrator."


def refuse(plan: LaunchPlan) -> tuple[str, ...]:
    """Asks the cluster whether it would ever run the job; nothing is submitted.

    Returns:
        What the user should know: when it would start, or what it would wait for.

    Raises:
        LaunchError: It would not, or SLURM does not answer.
    """
    request, partitions = Request.of(plan), read_partitions()
    if found := problems(partitions, request):
        raise LaunchError("\n".join(problem.message for problem in found), found[0].hint)
    return (*without_time_limit(partitions, request), try_out(plan, partitions))


def without_time_limit(partitions: Mapping[str, Partition], request: Request) -> tuple[str, ...]:
    """What becomes of a job that asks for no time limit, where the cluster has one."""
    named = request.partitions[:1] or tuple(name for name, partition in partitions.items() if partition.default)
    if request.seconds is not None or not named or named[0] not in partitions:
        return ()
    partition = partitions[named[0]]
    limit = partition.default_seconds or partition.seconds
    if limit is None:
        return ()
    return (
        f"No time limit is given: partition {partition.name} ends the job after {duration(limit)}. "
        "It saves before that, and goes on by itself.",
    )


def try_out(plan: LaunchPlan, partitions: Mapping[str, Partition]) -> str:
    """Lets sbatch judge the request, with accounts, QOS, features and whatever else the site checks.

    Returns:
        When the job would start, or that it would have to wait.

    Raises:
        LaunchError: In sbatch's own words.
    """
    said = _tried(plan.sbatch)
    if said.code == 0:
        return _outlook(said.err)
    if said.absent or said.unreachable:
        raise no_answer(said)
    if "node configuration is not available" in said.err and _may_come_back(partitions, Request.of(plan)):
        return (
            "SLURM could not start it now: nodes that it needs are down, drained or reserved. It would wait for them."
        )
    message = "; ".join(line.rstrip(".") for line in said.err.splitlines() if not line.startswith("Try "))
    raise LaunchError(f"SLURM would not take the job{_culprit(plan)}: {message}.", _way_out(said.err, plan))


def _tried(options: Mapping[str, str | bool]) -> Said:
    words = [f"--{name}" if value is True else f"--{name}={value}" for name, value in options.items()]
    return said_by(["sbatch", "--test-only", *words], text="#!/bin/bash\ntrue\n")


_NOT_ALONE = frozenset(  # what segctl says itself, and what has been compared with the partition's limits
    ("nodes", "ntasks-per-node", "signal", "requeue", "no-requeue", "open-mode", "kill-on-invalid-dep", "time")
)
_MOST_TRIED = 12


def _culprit(plan: LaunchPlan) -> str:
    """`` with exclude=n99``: the option without which sbatch would take the job; empty where there is no such one."""
    names = [name for name in plan.sbatch if name not in _NOT_ALONE][:_MOST_TRIED]
    for name in reversed(names):  # those of --slurm stand last
        if _tried({other: value for other, value in plan.sbatch.items() if other != name}).code == 0:
            value = plan.sbatch[name]
            return f" with {name}" if value is True else f" with {name}={value}"
    return ""


def _outlook(said: str) -> str:
    match = re.search(r"to start at (\S+) using \d+ processors on nodes (\S+)(?: in partition (\S+))?", said)
    if match is None:
        return "SLURM would take it."
    where = f"{match[2]}, partition {match[3]}" if match[3] else match[2]
    return f"SLURM would take it, and now expects to start it at {match[1].replace('T', ' ')} on {where}."


def _may_come_back(partitions: Mapping[str, Partition], request: Request) -> bool:
    """Whether nodes that could run the job do not serve now, for which sbatch has the same words as for none at all."""
    chosen = [partitions[name] for name in request.partitions if name in partitions]
    chosen = chosen or [partition for partition in partitions.values() if partition.default]
    return any(not group.serving and _fits(group, request) for partition in chosen for group in partition.groups)


def _way_out(said: str, plan: LaunchPlan) -> str:
    if "unrecognized option" in said or "invalid option" in said:
        return "It stands in launch.slurm.options, or was given with --slurm."
    if "account" in said.lower() or "qos" in said.lower():
        return "'sacctmgr show associations where user=$USER' lists your accounts with their QOS."
    if "feature" in said.lower():
        return f"launch.slurm.constraint is {plan.sbatch.get('constraint')!r}; 'sinfo -o %f' lists the nodes' features."
    if "node configuration is not available" in said:
        return "No node has all of this together; 'sinfo -o \"%P %D %c %m %G %f\"' lists what there is."
    return ""
