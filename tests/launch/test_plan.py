"""What is started where, decided from the request and the machine alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from segctl.config.schema import Config
from segctl.errors import LaunchError
from segctl.launch.machine import Gpu, Machine
from segctl.launch.plan import LaunchPlan, make_plan

FOUR_GPUS = tuple(Gpu(str(number), f"GPU-{number}") for number in range(4))


def config(**launch: Any) -> Config:
    return Config.model_validate({"model": "enet", "dataset": "shapes", "launch": launch})


@pytest.mark.parametrize(
    ("request_", "gpus", "expected"),
    [
        ({}, 0, ("cpu", 1, 0, 8)),
        ({}, 4, ("cuda", 4, 4, 2)),
        ({"procs": 3}, 0, ("cpu", 3, 0, 2)),
        ({"procs": 16}, 0, ("cpu", 16, 0, 1)),
        ({"procs": 2}, 4, ("cuda", 2, 2, 4)),
        ({"gpus": 3}, 4, ("cuda", 3, 3, 2)),
        ({"gpus": 2, "procs": 2}, 4, ("cuda", 2, 2, 4)),
        ({"gpus": 0}, 4, ("cpu", 1, 0, 8)),
        ({"gpus": 0, "procs": 2}, 4, ("cpu", 2, 0, 4)),
    ],
)
def test_processes_devices_and_threads(
    request_: dict[str, int], gpus: int, expected: tuple[str, int, int, int]
) -> None:
    plan = make_plan(config(**request_), Machine(cores=8, gpus=FOUR_GPUS[:gpus]))
    assert (plan.device, plan.procs_per_node, plan.gpus_per_node, plan.threads_per_proc) == expected
    assert plan.environment["OMP_NUM_THREADS"] == str(expected[3])
    assert plan.environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert plan.world_size == expected[1]
    assert (plan.gpus == ()) == (plan.device == "cpu")


def test_the_users_number_of_threads_stands() -> None:
    plan = make_plan(config(procs=2), Machine(cores=8, threads=1))
    assert (plan.threads_per_proc, plan.environment["OMP_NUM_THREADS"]) == (1, "1")


@pytest.mark.parametrize(
    ("request_", "gpus", "message"),
    [
        ({"gpus": 5}, 4, "5 GPUs were asked for, but only 4 are visible. Ask for 4 at most, or use --gpus 0"),
        ({"gpus": 1}, 0, "1 GPU was asked for, but no GPU is visible. Use --gpus 0"),
        ({"gpus": 2, "procs": 4}, 4, "each process drives one GPU. Leave --procs out"),
        ({"procs": 2}, 1, "2 processes were asked for, but only 1 is visible"),
        ({"nodes": 2}, 0, "2 nodes were asked for, but this machine is one"),
        (
            {"time": "2"},
            0,
            "A job that may run for 120 s (launch.time) cannot save 120 s before that (launch.save_before). "
            "Raise launch.time or lower launch.save_before.",
        ),
        ({"on": "slrum"}, 0, "'slrum' is not a place to run jobs on; there is local"),
    ],
)
def test_what_is_not_there_is_refused(request_: dict[str, Any], gpus: int, message: str) -> None:
    with pytest.raises(LaunchError) as caught:
        make_plan(config(**request_), Machine(cores=8, gpus=FOUR_GPUS[:gpus]))
    assert message in str(caught.value)


def test_how_long_a_job_may_run_and_how_it_goes_on() -> None:
    plan = make_plan(config(time="1:30:00", save_before=60, max_restarts=3), Machine(cores=1))
    assert (plan.time_limit, plan.save_before, plan.requeue, plan.max_restarts) == (5400, 60, True, 3)
    assert make_plan(config(), Machine(cores=1)).time_limit is None


def test_why_there_is_no_gpu_is_passed_on() -> None:
    reason = "nvidia-smi says: Failed to initialize NVML: Driver/library version mismatch"
    with pytest.raises(LaunchError, match="no GPU is visible: nvidia-smi says: Failed"):
        make_plan(config(gpus=1), Machine(cores=8, no_gpu_reason=reason))


def test_a_plan_survives_json() -> None:
    plan = make_plan(config(gpus=2), Machine(cores=8, gpus=FOUR_GPUS))
    assert LaunchPlan.from_record(json.loads(json.dumps(plan.as_record()))) == plan
