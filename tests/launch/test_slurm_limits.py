"""What a partition allows beside what a job asks for; expected sentences by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from segctl.config.schema import Launch
from segctl.launch.slurm.limits import Request, problems, without_time_limit
from segctl.launch.slurm.partitions import NodeGroup, Partition, duration, gpus_of, megabytes, parse_sinfo
from segctl.launch.slurm.plan import plan_slurm

SINFO = """\
cpu*|up|infinite|1:00:00|1-infinite|10|32|128000|mix|(null)
cpu*|up|infinite|1:00:00|1-infinite|2|64|512000|down*|(null)
gpu|up|2-00:00:00|n/a|1-4|6|64|512000|alloc|gpu:a100:4(S:0-1),nvme:1
gpu|up|2-00:00:00|n/a|1-4|1|48|256000|drain|gpu:v100:8(S:0-1)
old|inactive|12:00:00|30:00|1|4|16|64000|idle~|gpu:2
empty|up|infinite|infinite|1-infinite|0|0|0|n/a|(null)

slurm_load_node: something odd
"""
FOUND = parse_sinfo(SINFO)


def test_partitions_are_read_from_sinfo() -> None:
    assert list(FOUND) == ["cpu", "gpu", "old", "empty"]
    assert FOUND["cpu"] == Partition(
        "cpu",
        default=True,
        default_seconds=3600,
        groups=(NodeGroup(10, 32, 128000), NodeGroup(2, 64, 512000, serving=False)),
    )
    assert FOUND["gpu"] == Partition(
        "gpu",
        seconds=172800,
        max_nodes=4,
        groups=(NodeGroup(6, 64, 512000, {"a100": 4}), NodeGroup(1, 48, 256000, {"v100": 8}, serving=False)),
    )
    assert FOUND["old"] == Partition("old", "inactive", False, 43200, 1800, 1, (NodeGroup(4, 16, 64000, {"": 2}),))
    assert FOUND["empty"].groups == ()


@pytest.mark.parametrize(
    ("resources", "gpus"),
    [
        ("(null)", {}),
        ("", {}),
        ("gpu:4", {"": 4}),
        ("gpu", {"": 1}),
        ("gpu:a100", {"a100": 1}),
        ("gpu:a100:4(S:0,2-3)", {"a100": 4}),
        ("gpu:1g.5gb:7,gpu:a100:3", {"1g.5gb": 7, "a100": 3}),
        ("nvme:1,shard:8,gpu:2(S:1)(IDX:0-1)", {"": 2}),
    ],
)
def test_gpus_among_generic_resources(resources: str, gpus: dict[str, int]) -> None:
    assert gpus_of(resources) == gpus


@pytest.mark.parametrize(("text", "expected"), [("64G", 65536), ("64GB", 65536), ("500", 500), ("1T", 1048576)])
def test_memory_in_megabytes(text: str, expected: int) -> None:
    assert megabytes(text) == expected


def test_all_of_a_nodes_memory_is_no_number() -> None:
    assert megabytes("0") is None


def test_durations_are_as_sbatch_takes_them() -> None:
    assert [duration(seconds) for seconds in (90, 43200, 180000)] == ["00:01:30", "12:00:00", "2-02:00:00"]


def said(**request: Any) -> list[tuple[str, str]]:
    return [(problem.message, problem.hint) for problem in problems(FOUND, Request(**request))]


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"nodes": 12, "cpus": 32},
        {"nodes": 2, "cpus": 64},
        {"partitions": ("gpu",), "nodes": 4, "gpus": 4, "cpus": 64, "memory": 512000, "seconds": 172800},
        {"partitions": ("gpu",), "gpus": 8},
        {"partitions": ("gpu",), "gpus": 8, "gpu_type": "v100"},
        {"partitions": ("old", "gpu"), "gpus": 4},
    ],
)
def test_what_a_partition_allows_is_no_problem(request_: dict[str, Any]) -> None:
    assert said(**request_) == []


GPU = {"partitions": ("gpu",)}
REFUSED = [
    (
        {**GPU, "seconds": 172801},
        "launch.time: 2-00:00:01 is more than partition gpu allows, 2-00:00:00.",
        "Use --time 2-00:00:00: the job saves before that and goes on by itself. With --partition cpu it would run.",
    ),
    ({**GPU, "nodes": 5, "gpus": 1}, "launch.nodes: 5 is more than partition gpu allows, 4.", "Use --nodes 4."),
    (
        {"nodes": 13},
        "launch.nodes: 13 nodes were asked for, but partition cpu has only 12.",
        "Use --nodes 12.",
    ),
    (
        {"nodes": 3, "cpus": 64, "memory": 512000},
        "launch.nodes: 3 nodes were asked for, but only 2 of partition cpu have 64 CPUs and 500G.",
        "Use --nodes 2. With --partition gpu it would run.",
    ),
    (
        {**GPU, "nodes": 2, "gpus": 8},
        "launch.nodes: 2 nodes were asked for, but only one of partition gpu has 8 GPUs.",
        "Use --nodes 1.",
    ),
    (
        {**GPU, "gpus": 8, "cpus": 64},
        "launch.nodes: 1 node was asked for, but none of partition gpu has 8 GPUs and 64 CPUs.",
        "",
    ),
    (
        {**GPU, "gpus": 9},
        "launch.gpus: 9 GPUs per node were asked for, but a node of partition gpu has 8.",
        "Use --gpus 8.",
    ),
    (
        {**GPU, "gpus": 8, "gpu_type": "a100"},
        "launch.gpus: 8 a100 GPUs per node were asked for, but a node of partition gpu has 4.",
        "Use --gpus 4.",
    ),
    (
        {**GPU, "gpus": 1, "gpu_type": "h100"},
        "launch.gpus: 1 h100 GPU per node was asked for, but no node of partition gpu has any. There, they "
        "are of type a100 or v100.",
        "",
    ),
    (
        {"gpus": 2},
        "launch.gpus: 2 GPUs per node were asked for, but no node of partition cpu has any.",
        "With --partition gpu it would run.",
    ),
    (
        {"cpus": 65},
        "launch.slurm.cpus_per_gpu: 65 CPUs per node were asked for, but a node of partition cpu has 64 at most.",
        "",
    ),
    (
        {"cpus": 999, "procs": 999},
        "launch.procs: 999 processes per node with 1 CPU each need 999 CPUs, but a node of partition cpu has 64 "
        "at most.",
        "Use --procs 64.",
    ),
    (
        {**GPU, "cpus": 96, "procs": 4, "gpus": 4},
        "launch.gpus and launch.slurm.cpus_per_gpu: 4 GPUs per node with 24 CPUs each need 96 CPUs, but a node of "
        "partition gpu has 64 at most.",
        "Use --gpus 2.",
    ),
    (
        {"memory": 600000},
        "launch.slurm.memory: 585.9G per node were asked for, but a node of partition cpu has 500G at most.",
        "",
    ),
    (
        {"partitions": ("old",)},
        "Partition old takes no jobs: its state is inactive.",
        "With --partition cpu or gpu it would run.",
    ),
    ({"partitions": ("empty",)}, "Partition empty has no nodes.", "With --partition cpu or gpu it would run."),
    (
        {"partitions": ("gpus",)},
        "launch.slurm.partition: the cluster has no partition 'gpus'. Did you mean 'gpu'?",
        "There are cpu, gpu, old and empty.",
    ),
    (
        {"partitions": ("gpu", "big")},
        "launch.slurm.partition: the cluster has no partition 'big'.",
        "There are cpu, gpu, old and empty.",
    ),
]


@pytest.mark.parametrize(("request_", "message", "hint"), REFUSED, ids=[message for _, message, _ in REFUSED])
def test_what_no_partition_allows_is_a_sentence(request_: dict[str, Any], message: str, hint: str) -> None:
    assert said(**request_) == [(message, hint)]


def test_every_limit_is_told() -> None:
    found = said(partitions=("gpu",), nodes=5, gpus=9, cpus=100, memory=600000, seconds=200000)

    assert [message.split(":")[0] for message, _ in found] == [
        *("launch.time", "launch.nodes", "launch.gpus", "launch.slurm.cpus_per_gpu", "launch.slurm.memory"),
    ]


def test_without_a_default_a_partition_has_to_be_named() -> None:
    (problem,) = problems({"gpu": FOUND["gpu"]}, Request())

    assert problem.message == "No partition is named, and the cluster has no default."
    assert problem.hint == "Use --partition with one of gpu."


def test_a_job_without_a_time_limit_is_told_the_partitions() -> None:
    (told,) = without_time_limit(FOUND, Request())
    assert told.startswith("No time limit is given: partition cpu ends the job after 01:00:00.")

    (told,) = without_time_limit(FOUND, Request(partitions=("gpu",)))
    assert "after 2-00:00:00" in told
    assert without_time_limit(FOUND, Request(seconds=60)) == ()
    assert without_time_limit({"cpu": replace(FOUND["cpu"], default_seconds=None)}, Request()) == ()


def test_a_request_is_what_a_plan_asks_of_sbatch() -> None:
    launch = Launch(
        on="slurm",
        nodes=2,
        gpus=4,
        time="1-0",
        slurm={"partition": "gpu,old", "memory": "64G", "cpus_per_gpu": 8, "gpu_type": "a100"},
    )

    assert Request.of(plan_slurm(launch)) == Request(("gpu", "old"), 2, 32, 65536, 4, "a100", 86400, 4)
    assert Request.of(plan_slurm(Launch(on="slurm", procs=3))) == Request(cpus=3, procs=3)
