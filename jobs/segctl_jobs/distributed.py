"""Processes that train or evaluate together: who this one is, how they meet, and what they agree on.

The environment that torchrun also sets (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE) says who this process is.
Processes meet through a port that rank 0 is given by its kernel and publishes in the run directory, so two jobs on
one host can never collide.
"""

from __future__ import annotations

import inspect
import logging
import os
import socket
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from segctl.errors import LaunchError
from segctl.runs import attempt
from segctl.runs.files import read_json, write_json
from segctl.runs.run import Run
from segctl_jobs.sync_batchnorm import SyncBatchNorm

log = logging.getLogger(__name__)

MEETING_SECONDS = 300


@dataclass(frozen=True)
class World:
    """The processes of a job, as seen from one of them."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Sums a CPU tensor over all processes, in place; every process must call it."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def max(self, values: list[int]) -> list[int]:
        """The element-wise largest of a few integers over all processes; every process must call it."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.int64)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return [int(value) for value in tensor.tolist()]

    def gather(self, value: Any) -> list[Any]:
        """Everybody's `value` (small, picklable), by rank; every process must call it."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        self.max([0])


def connect(run: Run, *, patience: timedelta = timedelta(minutes=30)) -> World:
    """Joins the job's process group: gloo for CPU tensors, NCCL for those on GPUs.

    Args:
        patience: How long a collective may wait for the other processes.

    Raises:
        LaunchError: Rank 0 did not appear within `MEETING_SECONDS`, or there is no GPU where one was planned.
    """
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank, local_size = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    use_gpu = torch.cuda.is_available() and torch.cuda.device_count() > 0
    if _planned_device(run) == "cuda" and not use_gpu:
        raise LaunchError(
            f"The job was planned on GPUs, but torch sees none on {socket.gethostname()}.",
            "Check the driver with nvidia-smi, or train on the CPU with --gpus 0.",
        )
    if use_gpu:
        # A scheduler that gives each task its own GPU shows it as number 0.
        device = torch.device("cuda", local_rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
    if size > 1:
        store = _meet(run.path / f"rendezvous-{attempt.this()}.json", rank, size)
        backend = "cpu:gloo,cuda:nccl" if use_gpu else "gloo"
        # NCCL has a watchdog of its own, which aborts the process without a word about the cause.
        os.environ.setdefault("TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC", str(int(patience.total_seconds())))
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=patience)
    return World(rank, size, local_rank, local_size, device)


def _planned_device(run: Run) -> str | None:
    attempts = (read_json(run.submission_file) or {}).get("attempts") or [{}]
    device: str | None = attempts[-1].get("plan", {}).get("device")
    return device


def disconnect() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _meet(address_file: Path, rank: int, size: int) -> dist.Store:
    timeout = timedelta(seconds=MEETING_SECONDS)
    if rank == 0:
        host = _own_address()
        store = dist.TCPStore(host, 0, size, is_master=True, wait_for_workers=False, timeout=timeout)
        write_json(address_file, {"host": host, "port": store.port})
        return store
    deadline = time.monotonic() + MEETING_SECONDS
    while time.monotonic() < deadline:
        address = read_json(address_file)
        if address is not None:
            return dist.TCPStore(address["host"], address["port"], size, is_master=False, timeout=timeout)
        time.sleep(0.05)
    raise LaunchError(
        f"Rank {rank} waited {MEETING_SECONDS} s for rank 0, which never published {address_file}.",
        "Look at rank 0's log, and check that all nodes see the runs directory.",
    )


def _own_address() -> str:
    """Where the other processes reach this one: loopback on one node, else under the host's name."""
    if int(os.environ.get("LOCAL_WORLD_SIZE", 1)) == int(os.environ.get("WORLD_SIZE", 1)):
        return "127.0.0.1"
    return socket.gethostname()


def distribute(model: nn.Module, world: World, *, sync_bn: bool) -> nn.Module:
    """Wraps `model` (already on its device) in DistributedDataParallel when there is more than one process.

    With `sync_bn` every BatchNorm layer computes its statistics over all processes; on a CPU, where torch has no such
    layer, with ours.
    """
    if world.size == 1:
        return model
    if sync_bn:
        convert = nn.SyncBatchNorm if world.device.type == "cuda" else SyncBatchNorm
        model = convert.convert_sync_batchnorm(model)
    wrapper = nn.parallel.DistributedDataParallel
    # Statistics that are synchronised are equal everywhere already; without sync_bn rank 0's, which are saved, are sent
    # to all before each step. torch 2.15 gave the argument a new name.
    renamed = "forward_sync_buffers" in inspect.signature(wrapper).parameters
    buffers = {"forward_sync_buffers" if renamed else "broadcast_buffers": not sync_bn}
    devices = [world.device.index] if world.device.type == "cuda" else None
    return wrapper(model, device_ids=devices, gradient_as_bucket_view=True, **buffers)
