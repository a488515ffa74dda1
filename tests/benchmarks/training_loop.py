"""What the training costs beyond the model: `segctl_jobs.train` against a bare loop over the same tensors.

Both sides run in processes of their own, in turn; each says how long a step took, its start left out. The bare loop has
its batches in memory, drawn beforehand from the same samples. On a CPU one core is the model's and the others are the
loader's, or they would compete.

    python tests/benchmarks/training_loop.py [--pairs 5] [--steps 60] [--model enet]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WARM_UP = 10


def configuration(model: str, steps: int) -> object:
    from segctl.config.load import resolve

    settings = [
        "dataset.size=128",
        "train.batch_size=8",
        f"train.steps={steps}",
        "train.eval_every=1000000",
        f"train.checkpoint_every={steps // 2}",
        "train.log_every=5",
        "train.workers=1",
        "dataset.eval_samples=1",
        "augment.crop=null",
    ]
    return resolve(None, {"model.name": model, "dataset.name": "shapes"}, settings)


def ours(model: str, steps: int) -> float:
    """Seconds a step of a real training, with its loader, records, status and checkpoints."""
    from segctl.config.load import dump
    from segctl.runs.metrics import read
    from segctl.runs.run import Run
    from segctl_jobs.main import run

    with tempfile.TemporaryDirectory() as folder:
        this = Run(Path(folder))
        this.config_file.write_text(dump(configuration(model, steps)))  # type: ignore[arg-type]
        this.run_file.write_text(json.dumps({"id": "benchmark", "kind": "train"}))
        run(this.path, lambda: None)
        moments = {record["step"]: record["time"] for record in read(this) if record["event"] == "train"}
    return (moments[steps] - moments[WARM_UP]) / (steps - WARM_UP)


def bare(model: str, steps: int) -> float:
    """Seconds a step of forward, loss, backward and optimizer alone."""
    import torch

    from segctl.config.schema import Config
    from segctl.runs.run import Run
    from segctl_jobs.build import open_split
    from segctl_jobs.data import StepSampler, TrainingSamples, training_batches
    from segctl_jobs.distributed import World
    from segctl_jobs.engine import assemble
    from segctl_jobs.inference import normalize

    config = configuration(model, steps)
    assert isinstance(config, Config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    world = World(0, 1, 0, 1, device)
    dataset, info = open_split(config, None, training=True)
    with tempfile.TemporaryDirectory() as folder:
        engine = assemble(Run(Path(folder)), config, world, dataset, info, from_checkpoint=False)
    samples = TrainingSamples(dataset, info, config.seed, config.augment, config.input)
    sampler = StepSampler(len(dataset), config.train.batch_size, config.seed, start=0, total=steps)
    batches = list(training_batches(samples, sampler, world, 0))
    for index, batch in enumerate(batches):
        if index == WARM_UP:
            if device.type == "cuda":
                torch.cuda.synchronize()
            began = time.perf_counter()
        images = normalize(batch.images.to(device, non_blocking=True), config.input)
        masks = batch.masks.to(device, non_blocking=True).long()
        engine.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=engine.amp, enabled=engine.amp is not None):
            loss = sum(engine.loss(engine.model(images), masks).values())
        loss.backward()
        engine.optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / (steps - WARM_UP)


def measured(side: str, arguments: argparse.Namespace) -> float:
    command = [sys.executable, __file__, "--side", side, "--model", arguments.model, "--steps", str(arguments.steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(output.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--model", default="enet")
    parser.add_argument("--side", choices=["ours", "bare"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side is not None:
        if os.environ.get("OMP_NUM_THREADS"):
            import torch

            torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        print({"ours": ours, "bare": bare}[arguments.side](arguments.model, arguments.steps))
        return
    ratios = []
    for pair in range(arguments.pairs):
        mine, plain = measured("ours", arguments), measured("bare", arguments)
        ratios.append(mine / plain)
        print(f"pair {pair + 1}: {mine * 1e3:.1f} ms a step, bare loop {plain * 1e3:.1f} ms, ratio {ratios[-1]:.3f}")
    print(
        f"median ratio {statistics.median(ratios):.3f} ({arguments.model}, {arguments.steps} steps, batch 8, 128x128)"
    )


if __name__ == "__main__":
    main()
