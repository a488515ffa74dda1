"""What kind of failure it is, by the texts of Linux, torch, gloo and NCCL."""

from __future__ import annotations

import errno
import signal

import pytest

from segctl.runs.blame import Death
from segctl.runs.fault import Fault, is_consequence, of_end, of_error

ERRORS: list[tuple[str, str, Fault]] = [
    ("ValueError", "13 classes", "person"),
    ("ModuleNotFoundError", "No module named 'x'", "person"),
    ("SyntaxError", "invalid syntax (net.py, line 3)", "person"),
    ("ConnectionRefusedError", "[Errno 111] Connection refused", "person"),
    ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 20.00 MiB.", "out_of_memory_device"),
    ("RuntimeError", "CUDA error: out of memory", "out_of_memory_device"),
    (
        "RuntimeError",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "out_of_memory_device",
    ),
    ("MemoryError", "", "out_of_memory_host"),
    (
        "RuntimeError",
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory",
        "out_of_memory_host",
    ),
    ("OSError", "[Errno 12] Cannot allocate memory", "out_of_memory_host"),
    ("RuntimeError", "unable to write to file </torch_1_2_3>: No space left on device (28)", "out_of_memory_host"),
    ("OSError", "[Errno 28] No space left on device: '/runs/r/status.json'", "disk"),
    ("OSError", "[Errno 122] Disk quota exceeded", "disk"),
    ("DistBackendError", "NCCL error in: x.cpp:1691, unhandled system error, NCCL version 2.21.5", "nccl"),
    ("RuntimeError", "NCCL communicator was aborted on rank 1.", "nccl"),
    (
        "RuntimeError",
        "[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=12, OpType=ALLREDUCE",
        "nccl",
    ),
    (
        "RuntimeError",
        "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [1.2.3.4]",
        "node",
    ),
    ("RuntimeError", "[..gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv", "node"),
    ("DistNetworkError", "failed to recv, got 0 bytes. Connection was likely closed.", "node"),
    ("DistNetworkError", "The client socket has timed out after 300000ms while trying to connect", "node"),
    ("RuntimeError", "CUDA error: uncorrectable ECC error encountered", "node"),
    ("RuntimeError", "No CUDA GPUs are available: no CUDA-capable device is detected", "node"),
    ("OSError", "[Errno 116] Stale file handle: '/data/x.png'", "node"),
]


@pytest.mark.parametrize(("kind", "message", "fault"), ERRORS)
def test_errors(kind: str, message: str, fault: Fault) -> None:
    record = {"type": kind, "message": message, "rank": 0}
    assert of_error(record) == fault
    broken = fault == "nccl" or "gloo" in message or kind == "DistNetworkError"
    assert is_consequence(record) == broken


def test_an_error_number_of_the_system_goes_before_the_words() -> None:
    """A checkpoint that could not be written is told in words of ours; it was raised from the system's error."""
    ours = {"type": "CheckpointError", "message": "The checkpoint could not be written.", "user_error": True}
    assert of_error(ours) == "person"
    assert of_error({**ours, "errno": errno.ENOSPC}) == "disk"
    assert of_error({**ours, "errno": errno.EIO}) == "node"


@pytest.mark.parametrize(
    ("death", "fault"),
    [
        (Death(0, 0), "person"),
        (Death(0, 2, "python: can't open file"), "person"),
        (Death(0, 1, "torch.OutOfMemoryError: CUDA out of memory. Tried"), "out_of_memory_device"),
        (Death(0, 1, disk_full=True), "disk"),
        (Death(0, -signal.SIGKILL, out_of_memory=True), "out_of_memory_host"),
        (Death(0, 137, out_of_memory=True), "out_of_memory_host"),
        (Death(0, -signal.SIGKILL, out_of_memory=False), "killed"),
        (Death(0, -signal.SIGSEGV, out_of_memory=True), "killed"),
        (Death(0, 139), "killed"),
        (Death(0, -signal.SIGBUS), "out_of_memory_host"),
        (Death(0, 124), "hang"),
    ],
)
def test_ranks_that_left_no_word(death: Death, fault: Fault) -> None:
    assert death.fault == fault


def test_a_container_says_signals_as_codes() -> None:
    assert of_end(128 + signal.SIGKILL, out_of_memory=True) == "out_of_memory_host"


def test_a_death_survives_supervisor_json() -> None:
    record = {"rank": 2, "code": -9, "host": "n1", "out_of_memory": True, "last_line": None, "later": 1}
    assert Death.from_record(record) == Death(2, -9, "", True, False, "n1")
