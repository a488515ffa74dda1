"""How long a checkpoint stops the training: `CheckpointWriter.save` against copying the same state to host memory.

python tests/benchmarks/checkpointing.py [--megabytes 400] [--pairs 7]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from segctl_jobs.checkpoint import CheckpointWriter, to_host


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    count = 100
    size = arguments.megabytes * 2**20 // 4 // count
    weights = {f"layer{index}": torch.randn(size, device=device) for index in range(count)}
    state = {"step": 0, "best_step": None, "model": weights, "ema": None}
    stops, copies, writes = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        writer = CheckpointWriter(Path(folder))
        for step in range(arguments.pairs):
            began = time.perf_counter()
            writer.save({**state, "step": step})
            stops.append(time.perf_counter() - began)
            writer.wait()
            writes.append(time.perf_counter() - began)
            began = time.perf_counter()
            to_host(state)
            copies.append(time.perf_counter() - began)
    stop, copy, write = (statistics.median(times) for times in (stops, copies, writes))
    ratio = statistics.median(one / other for one, other in zip(stops, copies, strict=True))
    print(f"{arguments.megabytes} MiB on {device}: training stops for {stop:.3f} s, the copy to the host alone takes")
    print(f"{copy:.3f} s (median ratio {ratio:.2f}), the whole file {write:.2f} s")


if __name__ == "__main__":
    main()
