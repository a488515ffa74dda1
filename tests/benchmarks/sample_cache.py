"""What `data.cache` costs and brings: training samples per second with and without it, from a fast and a slow disk.

The slow one stands for a network file system: each file that is opened takes some milliseconds longer. One process, one
thread; batches alternate between the ways, and the times are medians. CamVid's training split and the two Cityscapes
frames are read. "encoded" would be a cache of the files as they are: it saves the opening, not the decoding, so it is
what the fast disk does without a cache.

    python tests/benchmarks/sample_cache.py [--data ../shared/data] [--rounds 25] [--latency 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from segctl.config.load import resolve
from segctl.config.schema import Config
from segctl_jobs.build import open_split
from segctl_jobs.data import TrainingSamples
from segctl_jobs.distributed import World
from segctl_jobs.sample_cache import cached

BATCH = 8
ALONE = World(0, 1, 0, 1, torch.device("cpu"))
read_bytes = Path.read_bytes


def configuration(data: Path, dataset: str, crop: str, cache: str) -> Config:
    names = {"model.name": "enet", "dataset.name": dataset, "data_root": str(data)}
    return resolve(None, names, [f"data.cache={cache}", f"augment.crop={crop}"])


def batch(samples: TrainingSamples, count: int, first: int, latency: float) -> float:
    """Seconds for a sample, each file that is opened taking `latency` longer."""

    def slow(path: Path) -> bytes:
        time.sleep(latency)
        return read_bytes(path)

    Path.read_bytes = slow if latency else read_bytes  # type: ignore[method-assign]
    began = time.perf_counter()
    for position in range(first, first + BATCH):
        samples[position, position % count]
    seconds = time.perf_counter() - began
    Path.read_bytes = read_bytes  # type: ignore[method-assign]
    return seconds / BATCH


def report(name: str, config: Config, rounds: int, latency: float) -> None:
    dataset, info = open_split(config, None, training=True)
    began = time.perf_counter()
    kept = cached(dataset, info, config, "train", ALONE)
    seconds = time.perf_counter() - began
    (file,) = Path(config.data.cache or "").glob(f"{config.dataset.name}-*.samples")
    paths = [dataset.root / path for index in range(len(dataset)) for path in dataset.files(index)]  # type: ignore[attr-defined]
    before, after = sum(path.stat().st_size for path in paths) / 2**20, file.stat().st_size / 2**20
    print(f"\n{name}: {len(dataset)} samples, files {before:.0f} MiB, cache {after:.0f} MiB, made in {seconds:.1f} s")

    def samples(source: object) -> TrainingSamples:
        return TrainingSamples(source, info, 0, config.augment, config.input, finished=False)  # type: ignore[arg-type]

    ways: dict[str, Callable[[int], float]] = {
        "files": lambda first: batch(samples(dataset), len(dataset), first, 0),
        f"files, {1e3 * latency:g} ms to open": lambda first: batch(samples(dataset), len(dataset), first, latency),
        "cache": lambda first: batch(samples(kept), len(dataset), first, latency),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds):
        for way, take in ways.items():
            times[way].append(take(turn * BATCH))
    for way, values in times.items():
        print(f"{way:24}{1 / statistics.median(values):8.1f} samples/s{1e3 * statistics.median(values):8.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=beside, help="folder with camvid/ and samples/")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--latency", type=float, default=5, help="milliseconds to open a file on the slow disk")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name, root, dataset, crop in (
            ("CamVid 480x360, crop 480", arguments.data, "camvid", "480"),
            ("Cityscapes 2048x1024, crop 769", arguments.data / "samples", "cityscapes", "769"),
        ):
            report(name, configuration(root, dataset, crop, folder), arguments.rounds, arguments.latency / 1e3)


if __name__ == "__main__":
    main()
