"""Whether an exported model is the model: its logits at sizes it was not traced with, and its mIoU on the data set."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segctl.config.schema import Config, Input
from segctl.errors import ExportError
from segctl.plugin import DatasetInfo
from segctl.results import SizeComparison
from segctl_jobs.build import open_split
from segctl_jobs.counting import count
from segctl_jobs.data import Some
from segctl_jobs.distributed import World
from segctl_jobs.evaluate import check_classes
from segctl_jobs.inference import normalize
from segctl_jobs.metrics import summarize

__all__ = ["Comparison", "compare"]

SIZES = ((1, 65, 97), (3, 128, 72))  # number, height, width
LOGITS_TOLERANCE = 1e-4  # largest difference, relative to the largest logit; float32 in another order of operations
MIOU_TOLERANCE = 5e-4


Program = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Comparison:
    """A model and its export side by side; `split` to `exported_miou` are None where no data set was looked at."""

    sizes: tuple[SizeComparison, ...]
    split: str | None = None
    samples: int | None = None
    miou: float | None = None
    exported_miou: float | None = None
    logits_tolerance: float = LOGITS_TOLERANCE
    miou_tolerance: float = MIOU_TOLERANCE

    @property
    def equal(self) -> bool:
        return not self.faults

    @property
    def faults(self) -> str:
        """What differs by more than its tolerance; empty where nothing does."""
        found = [
            f"at {size.number}x3x{size.height}x{size.width} its logits differ by {size.difference:.2g} of the largest "
            f"({self.logits_tolerance:g} is allowed)"
            for size in self.sizes
            if not size.difference <= self.logits_tolerance
        ]
        if self.miou is not None and self.exported_miou is not None:
            difference = abs(self.miou - self.exported_miou)
            if not difference <= self.miou_tolerance:
                found.append(
                    f"its mIoU is {self.exported_miou:.4f}, the model's {self.miou:.4f} "
                    f"({self.miou_tolerance:g} is allowed)"
                )
        return "; ".join(found)


def compare(
    program: nn.Module,
    exported: Program,
    state: Mapping[str, Any],
    config: Config,
    path: Path,
    *,
    samples: int,
    on_progress: Callable[[str], None],
) -> Comparison:
    """Compares two programs that map uint8 images to logits, on the CPU.

    Args:
        state: The checkpoint `path` that they come from.
        samples: Images of the evaluation split, spread evenly; 0: only the logits are compared.

    Raises:
        ExportError: The exported program fails on images of some size.
        DataError: The data set is missing or faulty.
        CheckpointError: The data set has other classes than the model.
    """
    exported = _telling(exported)
    on_progress("Comparing logits")
    sizes = tuple(SizeComparison(*size, _difference(program, exported, size)) for size in SIZES)
    if samples == 0 or not Comparison(sizes).equal:
        return Comparison(sizes)
    dataset, info = open_split(config, config.eval.split, training=False)
    check_classes(state, info.classes, path)
    some = Some(dataset, samples)
    miou = []
    for name, each in (("the model", program), ("the export", exported)):
        on_progress(f"Measuring the mIoU of {name} on {len(some)} images")
        miou.append(_miou(each, some, info, config))
    return Comparison(sizes, config.eval.split or info.eval_split, len(some), *miou)


def _telling(exported: Program) -> Program:
    """`exported`, whose failures are told: a program holds for sizes that it was not traced for, or it does not."""

    def run(images: Tensor) -> Tensor:
        try:
            return exported(images)
        except Exception as error:
            number, _, height, width = images.shape
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
            raise ExportError(
                f"What was exported fails on {number} image(s) of {width}x{height}: {reason}. It was deleted."
            ) from error

    return run


@torch.no_grad()
def _difference(program: nn.Module, exported: Program, size: tuple[int, int, int]) -> float:
    number, height, width = size
    generator = torch.Generator().manual_seed(height)
    images = torch.randint(0, 256, (number, 3, height, width), dtype=torch.uint8, generator=generator)
    expected, found = program(images), exported(images)
    if expected.shape != found.shape:
        return math.inf
    return float((expected - found).abs().max() / expected.abs().max().clamp_min(1e-12))


class _BehindNormalisation(nn.Module):
    """A program of uint8 images in the place of a model, whose input has been normalised already."""

    def __init__(self, program: Program, input: Input) -> None:
        super().__init__()
        self.program = program
        self.black, white = (normalize(torch.full((3, 1, 1), value, dtype=torch.uint8), input) for value in (0, 255))
        self.step = (white - self.black) / 255

    def forward(self, pixels: Tensor) -> Tensor:
        images = ((pixels - self.black) / self.step).round().clamp(0, 255).to(torch.uint8)
        return self.program(images)


def _miou(program: Program, dataset: Some, info: DatasetInfo, config: Config) -> float | None:
    """As `segctl eval` counts, but in one scale, not mirrored: a scaled image is not one of whole numbers any more."""
    counted = count(
        _BehindNormalisation(program, config.input).eval(),
        dataset,
        info,
        config.eval.model_copy(update={"scales": (1.0,), "flip": False}),
        config.input,
        World(0, 1, 0, 1, torch.device("cpu")),
        amp=None,
        workers=0,
    )
    if counted is None:  # never stopped
        return None
    miou: float | None = summarize(counted.confusion, info.classes)["miou"]
    return miou
