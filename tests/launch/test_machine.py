"""GPUs and cores, as the user may use them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from segctl.errors import LaunchError
from segctl.launch import machine
from segctl.launch.machine import Gpu, parse_gpu_list, visible_gpus

INSTALLED = ["GPU-aa11", "GPU-ab22", "GPU-cc33"]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (None, ["0 GPU-aa11", "1 GPU-ab22", "2 GPU-cc33"]),
        ("", []),
        ("2,0", ["2 GPU-cc33", "0 GPU-aa11"]),
        (" 1 ", ["1 GPU-ab22"]),
        ("0,-1,1", ["0 GPU-aa11"]),  # CUDA: the first invalid one ends the list
        ("0,7,1", ["0 GPU-aa11"]),
        ("-1", []),
        ("NoDevFiles", []),
        ("GPU-cc33,0", ["GPU-cc33 GPU-cc33", "0 GPU-aa11"]),
        ("GPU-c", ["GPU-c GPU-cc33"]),  # the start of a UUID will do
        ("GPU-a", []),  # but not of two
        ("0,GPU-aa11", ["0 GPU-aa11"]),  # one GPU by two names is one GPU
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(chosen: str | None, expected: list[str]) -> None:
    assert [f"{gpu.token} {gpu.identity}" for gpu in visible_gpus(chosen, INSTALLED)] == expected


def test_mig_devices_are_there_by_name_only() -> None:
    installed = [*INSTALLED, "MIG-d4"]
    assert len(visible_gpus(None, installed)) == 3
    assert visible_gpus("MIG-d4", installed) == (Gpu("MIG-d4", "MIG-d4"),)


def test_the_list_of_nvidia_smi() -> None:
    text = (
        "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5b)\n"
        "  MIG 3g.20gb     Device  0: (UUID: MIG-1e6a)\n"
        "GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-77c0)\n"
    )
    assert parse_gpu_list(text) == ["GPU-5d5b", "GPU-77c0", "MIG-1e6a"]


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name in front of the PATH."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: X (UUID: GPU-aa11)'\necho 'GPU 1: X (UUID: GPU-ab22)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return program


def test_the_users_choice_among_the_installed(nvidia_smi: Path) -> None:
    assert len(machine.read({}).gpus) == 2
    assert machine.read({"CUDA_VISIBLE_DEVICES": "1"}).gpus == (Gpu("1", "GPU-ab22"),)
    hidden = machine.read({"CUDA_VISIBLE_DEVICES": ""})
    assert (hidden.gpus, "hides them all" in hidden.no_gpu_reason) == ((), True)


def test_a_driver_that_does_not_work_says_why(nvidia_smi: Path) -> None:
    nvidia_smi.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18\n")
    found = machine.read({})
    assert found.gpus == ()
    assert found.no_gpu_reason == "nvidia-smi says: Failed to initialize NVML: Driver/library version mismatch"


def test_cores_are_those_this_process_may_use() -> None:
    one = next(iter(os.sched_getaffinity(0)))
    code = f"import os; os.sched_setaffinity(0, [{one}]); from segctl.launch.machine import read; print(read().cores)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_settings_of_the_environment() -> None:
    read = machine.read({"CUDA_VISIBLE_DEVICES": "", "SEGCTL_CPU_SLOTS": "5", "OMP_NUM_THREADS": "4,2"})
    assert (read.cpu_slots, read.threads) == (5, 4)
    for wrong in ("0", "many", "-2", "1.5"):
        with pytest.raises(LaunchError, match="SEGCTL_CPU_SLOTS"):
            machine.read({"CUDA_VISIBLE_DEVICES": "", "SEGCTL_CPU_SLOTS": wrong})


def test_quota_of_a_container(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert machine.cpu_quota_of(tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.cpu_quota_of(tmp_path) is None
    old = tmp_path / "v1"
    old.mkdir()
    (old / "cpu.cfs_quota_us").write_text("400000\n")
    (old / "cpu.cfs_period_us").write_text("100000\n")
    assert machine.cpu_quota_of(old) == 4.0
    (old / "cpu.cfs_quota_us").write_text("-1\n")
    assert machine.cpu_quota_of(old) is None
    assert machine.cpu_quota_of(tmp_path / "none") is None
