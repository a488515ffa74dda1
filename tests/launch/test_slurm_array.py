"""A sweep on SLURM as it is planned: how many arrays, and what sbatch gets of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from segctl.launch.plan import LaunchPlan
from segctl.launch.slurm.array import Array, arrays, text_of


@pytest.mark.parametrize(
    ("count", "limit", "parts"),
    [
        (200, 1001, [Array(1, 0, 200)]),
        (3, 3, [Array(1, 0, 3)]),
        (7, 3, [Array(1, 0, 3), Array(2, 3, 3), Array(3, 6, 1)]),
        (1, 1, [Array(1, 0, 1)]),
    ],
)
def test_there_are_as_few_arrays_as_the_limit_allows(count: int, limit: int, parts: list[Array]) -> None:
    assert list(arrays(count, limit)) == parts


def test_each_element_finds_its_run_and_no_more_run_than_may() -> None:
    plan = LaunchPlan("slurm", 1, 1, "cpu", 0, 1, sbatch={"time": "10"}, setup=("module load x",), max_running=4)
    lines = text_of(Path("/runs/the sweep"), Array(2, 1000, 500), plan, "afterany:7").splitlines()
    assert lines[:6] == [
        "#!/bin/bash",
        "#SBATCH --job-name='segctl-the sweep-array2'",
        "#SBATCH --output='/runs/the sweep/logs/array2-%a.log'",
        "#SBATCH --array=0-499%4",
        "#SBATCH --time=10",
        "#SBATCH --dependency=afterany:7",
    ]
    assert lines[-2] == "module load x"
    assert lines[-1].startswith("exec ")
    assert lines[-1].endswith("segctl.launch.slurm.leader --sweep '/runs/the sweep' 1000")
