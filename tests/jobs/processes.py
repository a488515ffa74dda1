"""Runs a function in several real processes that form a gloo group, as a job's ranks do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing


def in_processes(function: Callable[..., Any], size: int, folder: Path, *arguments: Any) -> list[Any]:
    """Calls ``function(rank, size, *arguments)`` in `size` processes; returns what each returned (tensors, numbers)."""
    folder.mkdir(parents=True, exist_ok=True)
    multiprocessing.spawn(_call, (function, size, folder, arguments), nprocs=size)
    return [torch.load(folder / f"result{rank}.pt") for rank in range(size)]


def _call(rank: int, function: Callable[..., Any], size: int, folder: Path, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    torch.save(function(rank, size, *arguments), folder / f"result{rank}.pt")
    dist.destroy_process_group()
