"""A cluster's partitions and what their nodes have, as `sinfo` tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from segctl.config.time_limit import parse_time_limit
from segctl.errors import LaunchError
from segctl.launch.slurm.commands import Said, said_by

# name, availability, time limit, default time, job size, nodes, CPUs, memory, nodes' state, generic resources
_FORMAT = "%P|%a|%l|%L|%s|%D|%c|%m|%t|%G"
# In these states a node takes jobs, now or after those that it has; with some of the signs that sinfo adds, too.
_SERVING = re.compile(r"(idle|alloc|mix|comp|resv|plnd)[~#+-]*")
_UNIT = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}


@dataclass(frozen=True)
class NodeGroup:
    """Nodes of a partition that are alike.

    Attributes:
        count: How many.
        cpus: Of each.
        memory: MB of each.
        gpus: Of each, by type; the type is empty where SLURM knows none.
        serving: Whether they take jobs; not when down, drained or reserved for maintenance.
    """

    count: int
    cpus: int
    memory: int
    gpus: Mapping[str, int] = field(default_factory=dict)
    serving: bool = True


@dataclass(frozen=True)
class Partition:
    """What a partition allows; None: without a limit.

    Attributes:
        state: ``up``, ``down``, ``drain`` or ``inactive``.
        default: Jobs that name no partition go here.
        seconds: The longest time limit.
        default_seconds: The time limit of a job that asks for none.
        max_nodes: Of one job.
        groups: Its nodes.
    """

    name: str
    state: str = "up"
    default: bool = False
    seconds: int | None = None
    default_seconds: int | None = None
    max_nodes: int | None = None
    groups: tuple[NodeGroup, ...] = ()


def parse_sinfo(text: str) -> dict[str, Partition]:
    """Partitions by name, from ``sinfo --exact --noheader --all --format FORMAT``; odd rows are left out."""
    found: dict[str, Partition] = {}
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) != _FORMAT.count("%") or not fields[0].strip():
            continue
        name, state, longest, default, size, count, cpus, memory, node_state, resources = map(str.strip, fields)
        partition = found.get(name.rstrip("*")) or Partition(
            name=name.rstrip("*"),
            state=state,
            default=name.endswith("*"),
            seconds=_seconds(longest),
            default_seconds=_seconds(default),
            max_nodes=_number(size.rpartition("-")[2]),
        )
        group = NodeGroup(
            count=_number(count) or 0,
            cpus=_number(cpus) or 0,
            memory=_number(memory) or 0,
            gpus=gpus_of(resources),
            serving=_SERVING.fullmatch(node_state) is not None,
        )
        groups = (*partition.groups, group) if group.count else partition.groups
        found[partition.name] = replace(partition, groups=groups)
    return found


def gpus_of(resources: str) -> dict[str, int]:
    """GPUs by type in a list of generic resources: ``gpu:a100:4(S:0-1),nvme:1`` has 4 of a100."""
    found: dict[str, int] = {}
    for item in re.sub(r"\([^)]*\)", "", resources).split(","):
        parts = item.strip().split(":")
        if parts[0] == "gpu":
            count = _number(parts[-1])
            kind = ":".join(parts[1:-1] if count is not None else parts[1:])
            found[kind] = found.get(kind, 0) + (1 if count is None else count)
    return found


def _seconds(text: str) -> int | None:
    try:
        return parse_time_limit(text)
    except ValueError:  # infinite, n/a
        return None


def _number(text: str) -> int | None:
    match = re.match(r"\d+", text)  # sinfo's counts may end in K or +
    if match is None:
        return None
    return int(match[0]) * (1000 if text.endswith("K") else 1)


def megabytes(text: str) -> int | None:
    """Of ``64G``, ``64GB`` or ``65536``; None for 0, with which SLURM means all that a node has."""
    match = re.fullmatch(r"(\d+)([KMGT]?)B?", text)
    if match is None:
        return None
    return int(int(match[1]) * _UNIT[match[2] or "M"]) or None


def duration(seconds: int) -> str:
    """As sbatch takes it: ``12:00:00``, ``2-00:00:00``."""
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock}" if days else clock


def size(megabytes: int) -> str:
    """``62.5G``, ``4000M``."""
    return f"{megabytes / 1024:.1f}".removesuffix(".0") + "G" if megabytes >= 10 * 1024 else f"{megabytes}M"


def read_partitions() -> dict[str, Partition]:
    """The cluster's partitions by name.

    Raises:
        LaunchError: SLURM is not there or does not answer.
    """
    said = said_by(["sinfo", "--exact", "--noheader", "--all", "--format", _FORMAT])
    if said.code:
        raise no_answer(said)
    return parse_sinfo(said.out)


def no_answer(said: Said) -> LaunchError:
    if said.absent:
        return LaunchError(
            f"There is no SLURM here: {said.err}.", "Run segctl on a login node of the cluster, or use --on local."
        )
    last = said.err.strip().splitlines()[-1:] or ["no word"]  # the lines before it lead up to it
    return LaunchError(
        f"SLURM does not answer: {last[0].rstrip('.')}.", "Try again later; 'sinfo' tells when it is back."
    )
