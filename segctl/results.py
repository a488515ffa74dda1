"""What commands return that the jobs' code makes: both sides of `bridge` know these, and neither needs the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

__all__ = ["Imported", "Prediction", "SizeComparison", "Upsampling", "WeightsEntry"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Prediction:
    """What was predicted for one photograph.

    Attributes:
        image: The photograph.
        mask: Palette PNG of the upright photograph's size, in the data set's own label values.
        overlay: The photograph under the classes' colours, with a legend.
        shares: For each class that occurs, its share of the pixels; the largest first.
    """

    image: Path
    mask: Path
    overlay: Path
    shares: Mapping[str, float]


@dataclass(frozen=True)
class WeightsEntry:
    """What became of one entry of the model's state dict.

    Attributes:
        name: Its name in the model.
        shape: Its shape in the model.
        how: One of `Imported.WAYS`.
        source: The file's entry that it is taken from, or that has its name but not its shape; else None.
        source_shape: That entry's shape.
    """

    name: str
    shape: Shape
    how: str
    source: str | None = None
    source_shape: Shape | None = None


@dataclass(frozen=True)
class Imported:
    """How a file's entries and a model's belong together.

    Attributes:
        file: The file that was read.
        out: What is written from it.
        model: The model plugin's name and options.
        num_classes: The model's number of classes.
        file_classes: The number that the shapes in the file say; None where they do not.
        entries: Every entry of the model, in its order; BatchNorm's counters of steps are left out.
        unused: The file's entries that no entry of the model took.
        surplus: Those of them that stand between used ones: the file's model has more layers there than this one.
        notices: What the user should know although nothing is wrong.
    """

    WAYS: ClassVar[tuple[str, ...]] = ("exact", "renamed", "by order", "by shape", "ambiguous", "misshaped", "missing")
    """``exact``: the same name. ``renamed``: the same names below another prefix. ``by order``: the same sequence of
    layers, of the same shapes, under other names. ``by shape``: the only one of its shape. ``ambiguous``: there are
    several of its shape and nothing tells which. ``misshaped``: the name is there with another shape. ``missing``."""

    UNMATCHED: ClassVar[tuple[str, ...]] = ("ambiguous", "misshaped", "missing")

    file: Path
    out: Path
    model: Mapping[str, Any]
    num_classes: int
    file_classes: int | None
    entries: tuple[WeightsEntry, ...]
    unused: tuple[str, ...]
    surplus: tuple[str, ...]
    notices: tuple[str, ...]

    def of(self, *ways: str) -> tuple[WeightsEntry, ...]:
        return tuple(entry for entry in self.entries if entry.how in ways)

    @property
    def complete(self) -> bool:
        """Whether all of the model is in the file, and no more inside of what matches."""
        return not self.surplus and not self.of(*self.UNMATCHED)


@dataclass(frozen=True)
class Upsampling:
    """DUNet's upsampling, computed from masks.

    Attributes:
        out: The file that it was written to.
        num_classes: Number of classes of the data set.
        ratio: Height and width of a tile in pixels; the model's output stride.
        channels: How many numbers describe a tile.
        tiles: How many tiles of the training masks it was computed from.
        explained: The share of the tiles' variance that they keep when rebuilt from these numbers.
        pixel_accuracy: The share of the tiles' pixels whose class is right when they are rebuilt.
    """

    out: Path
    num_classes: int
    ratio: int
    channels: int
    tiles: int
    explained: float
    pixel_accuracy: float


@dataclass(frozen=True)
class SizeComparison:
    """How far the export's logits are from the model's for `number` images of `height` x `width` pixels.

    Attributes:
        difference: The largest difference, relative to the largest logit.
    """

    number: int
    height: int
    width: int
    difference: float
