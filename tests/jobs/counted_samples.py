"""Samples in memory and a model, for tests of what is counted of its predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segctl.config.schema import Evaluation, Input
from segctl.plugin import dataset_info
from segctl_jobs import counting
from segctl_jobs.distributed import World
from segctl_models.enet import enet

ALONE = World(rank=0, size=1, local_rank=0, local_size=1, device=torch.device("cpu"))


class LastBits(nn.Module):
    """Classes are the last bits of a real network's output: any difference in rounding becomes another class."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = enet(4)

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.network(x)
        logits = outputs["out"] if isinstance(outputs, dict) else outputs
        bits = logits.sum(dim=1).contiguous().view(torch.int32) & 3
        return nn.functional.one_hot(bits.long(), 5).permute(0, 3, 1, 2).float()


class Samples:
    """A data set in memory."""

    def __init__(
        self, samples: list[tuple[np.ndarray, np.ndarray]], names: list[str] | None = None, **facts: Any
    ) -> None:
        self.samples, self.names = samples, names or [f"sample-{index}" for index in range(len(samples))]
        self.classes = ("ground", "tree", "car", "sky", "bird")
        self.__dict__.update(facts)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.samples[index]

    def name(self, index: int) -> str:
        return self.names[index]


def random_samples(count: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images of different sizes, large enough for threads to share one; masks with ignored pixels."""
    random = np.random.default_rng(seed)
    sizes = [(96 + 7 * (index % 3), 128 + 5 * (index % 4)) for index in range(count)]
    return [
        (
            random.integers(0, 256, (*size, 3), dtype=np.uint8),
            random.choice(np.array([0, 1, 2, 3, 4, 255], np.uint8), size=size),
        )
        for size in sizes
    ]


def counted(dataset: Any, world: World = ALONE, model: nn.Module | None = None, **options: Any) -> np.ndarray | None:
    settings = options.pop("settings", Evaluation())
    info = dataset_info(dataset)
    result = counting.count(
        model or LastBits(), dataset, info, settings, Input(), world, **{"amp": None, "workers": 0, **options}
    )
    return None if result is None else result.confusion
