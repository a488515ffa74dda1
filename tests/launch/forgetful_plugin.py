"""Plugins that remember something from step to step which no checkpoint holds."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segctl_datasets.shapes import Shapes


class Counting(nn.Module):
    """Its logits grow a little with every call."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, num_classes, 3, padding=1), nn.BatchNorm2d(num_classes))
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        logits: Tensor = self.head(images) * (1 + 0.01 * self.calls)
        return logits


def counting(num_classes: int) -> nn.Module:
    return Counting(num_classes)


class Averaging:
    """Cross entropy relative to its own running mean."""

    def __init__(self, *, ignore_index: int = 255) -> None:
        self.ignore_index, self.mean = ignore_index, 1.0

    def __call__(self, outputs: Tensor | dict[str, Tensor], target: Tensor) -> Tensor:
        logits = outputs["out"] if isinstance(outputs, dict) else outputs
        loss = F.cross_entropy(logits, target, ignore_index=self.ignore_index)
        self.mean = 0.9 * self.mean + 0.1 * loss.item()
        return loss / self.mean


class Fading(Shapes):
    """Shapes that get darker the more of them have been drawn."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        self.drawn = getattr(self, "drawn", 0) + 1
        image, mask = super().__getitem__(index)
        return (image * 0.99**self.drawn).astype(np.uint8), mask


class Wandering(nn.Module):
    """Its weights begin anywhere: not even two undisturbed runs are alike."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, num_classes, 3, padding=1)
        anywhere = torch.Generator()
        anywhere.seed()
        with torch.no_grad():
            self.head.weight.normal_(0, 0.1, generator=anywhere)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images)
        return logits


def wandering(num_classes: int) -> nn.Module:
    return Wandering(num_classes)
