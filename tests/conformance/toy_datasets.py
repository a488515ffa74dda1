"""Data sets for the tests of the conformance kit: good ones, and ones with a single fault. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segctl.errors import DataError

Item = tuple[np.ndarray, np.ndarray]


class Good:
    """Three classes, drawn from the index.

    Args:
        height: Height of the images in pixels.
    """

    classes: tuple[str, ...] = ("ground", "left", "right")
    palette: tuple[Any, ...] = ((0, 0, 0), (255, 0, 0), (0, 0, 255))
    ignore_index = 255
    splits: Mapping[str, int | None] = {"train": 5, "val": None}
    train_split = "train"
    eval_split = "val"
    flip_pairs: tuple[tuple[int, int], ...] = ((1, 2),)
    layout: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    licence = "Apache-2.0"

    def __init__(self, root: Path, split: str, *, height: int = 6) -> None:
        if split not in self.splits:
            raise DataError(f"no split {split!r}")
        self.split = split
        self.height = height

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        rng = np.random.default_rng([index, self.split == "train"])
        image = rng.integers(0, 256, (self.height, 8 + index, 3), dtype=np.uint8)
        mask = rng.integers(0, 3, (self.height, 8 + index)).astype(np.uint8)
        mask[0, 0] = 255
        return self.change(image, mask, index)

    def change(self, image: np.ndarray, mask: np.ndarray, index: int) -> Any:
        """Where the faults are made."""
        return image, mask

    def name(self, index: int) -> Any:
        return f"{self.split}-{index}"


class NeedsFiles(Good):
    """Reads from disk, and says what."""

    layout = ("images", "masks")


class NeedsALaterSplit(Good):
    """Has its training images on disk only."""

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split)
        if split == "val":
            raise DataError("val.txt does not exist")


class KnowsItsClassesOnceOpen(Good):
    """Finds its classes in the data, like a user's own folder."""

    classes = ()
    palette = ()
    flip_pairs = ()
    licence = ""

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split)
        self.classes = ("a", "b", "c")
        self.palette = ((0, 0, 0), (1, 1, 1), (2, 2, 2))


# ---- faults, each in one place


class TakesOptionsByPosition(Good):
    """Has an option that is not keyword-only.

    Args:
        height: Height in pixels.
    """

    def __init__(self, root: Path, split: str, height: int = 6) -> None:
        super().__init__(root, split, height=height)


class UndocumentedOption(Good):
    """Says nothing of its option."""

    def __init__(self, root: Path, split: str, *, width: int = 6) -> None:
        super().__init__(root, split)


class WordForIgnored(Good):
    """Declares a word where a number must be."""

    ignore_index = "void"  # type: ignore[assignment]


class ShortPalette(Good):
    """Has a colour too few."""

    palette = ((0, 0, 0), (255, 0, 0))


class PaletteOutOfRange(Good):
    """Has a colour that is none."""

    palette = ((0, 0, 0), (255, 0, 0), (0, 0, 256))


class TwiceTheSameClass(Good):
    """Names two classes alike."""

    classes = ("ground", "left", "left")


class IgnoresAClass(Good):
    """Ignores what is also a class."""

    ignore_index = 2

    def change(self, image: np.ndarray, mask: np.ndarray, index: int) -> Any:
        return image, np.minimum(mask, 2)


class TooFewLabels(Good):
    """Does not say under which value each class is stored."""

    labels = (7, 8)


class MisnamedSplit(Good):
    """Evaluates on a split that it does not have."""

    eval_split = "vall"

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, "val" if split == "vall" else split)


class NoLicence(Good):
    """Does not say how it may be used."""

    licence = ""


class BadClassesOnceOpen(KnowsItsClassesOnceOpen):
    """Finds a class twice."""

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split)
        self.classes = ("a", "a", "c")


class FlipsTheUnknown(Good):
    """Mirrors a class that is not there."""

    flip_pairs = ((1, 3),)


class FlipsTwice(Good):
    """Mirrors a class into two."""

    flip_pairs = ((0, 1), (1, 2))


class BadFlipPairsOnceOpen(KnowsItsClassesOnceOpen):
    """Mirrors a class that is not there, found on opening."""

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split)
        self.flip_pairs = ((1, 3),)


class CannotBeOpened(Good):
    """Fails when it is opened."""

    def __init__(self, root: Path, split: str) -> None:
        if split in self.splits:
            raise RuntimeError("no such index")


class Empty(Good):
    """Has nothing."""

    def __len__(self) -> int:
        return 0


class AnySplit(Good):
    """Opens whatever it is asked for."""

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split if split in self.splits else "val")


class GreyImages(Good):
    """Gives images of one channel."""

    def change(self, image: np.ndarray, mask: np.ndarray, index: int) -> Any:
        return image[..., 0], mask


class FloatImages(Good):
    """Gives images that are normalised already."""

    def change(self, image: np.ndarray, mask: np.ndarray, index: int) -> Any:
        return image / 255, mask


class FloatMasks(Good):
    """Gives masks that are not integers."""

    def change(self, image: np.ndarray, mask: np.ndarray, index: int) -> Any:
        return image, mask.astype(np.float32)


class TransposedMasks(Good):
    """Gives masks of another size."""

    def change(self, image: np.ndarray, mask: np.ndarray, index: int) -> Any:
        return image, mask.T


class ThreeParts(Good):
    """Gives more than image and mask."""

    def change(self, image: np.ndarray, mask: np.ndarray, index: int) -> Any:
        return image, mask, {"index": index}


class UndeclaredValue(Good):
    """Has a value that is neither a class nor ignored, in one mask."""

    def change(self, image: np.ndarray, mask: np.ndarray, index: int) -> Any:
        return image, np.where((mask == 2) & (index == 4), 3, mask)


class NegativeValue(Good):
    """Ignores 255 and also writes -1."""

    def change(self, image: np.ndarray, mask: np.ndarray, index: int) -> Any:
        return image, np.where(mask == 255, -1, mask.astype(np.int64))


class Augments(Good):
    """Draws from a generator that goes on."""

    rng = np.random.default_rng(0)

    def change(self, image: np.ndarray, mask: np.ndarray, index: int) -> Any:
        return image ^ self.rng.integers(0, 256, dtype=np.uint8), mask


class DrawsOnOpening(Good):
    """Is another data set whenever it is opened."""

    opened = 0

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split)
        DrawsOnOpening.opened += 1
        self.shift = np.uint8(DrawsOnOpening.opened % 251)

    def change(self, image: np.ndarray, mask: np.ndarray, index: int) -> Any:
        return image ^ self.shift, mask


class MasksOfOthers(Good):
    """Has a quick way to the masks, which leads to those of the next sample."""

    def mask(self, index: int) -> np.ndarray:
        return self[(index + 1) % len(self)][1]


class FingerprintOfTheMoment(Good):
    """Says at each opening that its masks have changed."""

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split)
        self.opened = np.random.default_rng().integers(2**60)

    def fingerprint(self) -> str:
        return str(self.opened)


class OneFileForTheServer(Good):
    """Puts all predictions into one file of its submission."""

    def submission_path(self, index: int) -> str:
        return "result.png"


class SubmitsElsewhere(Good):
    """Names files outside of its submission."""

    def submission_path(self, index: int) -> str:
        return f"../{self.name(index)}.png"


class LabelledAndNot(Good):
    """Says of a split both that it has labels and that it has none."""

    unlabelled_splits: Mapping[str, int | None] = {"val": None}


class GivesItsCache(Good):
    """Keeps the arrays that it gives out."""

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split)
        self.cache: dict[int, Item] = {}

    def change(self, image: np.ndarray, mask: np.ndarray, index: int) -> Any:
        return self.cache.setdefault(index, (image, mask))


class NamesTwice(Good):
    """Names two samples alike, but for the case that some file systems do not tell."""

    def name(self, index: int) -> Any:
        return "a" if index == 3 else "A" if index == 1 else str(index)


class NamesWithFolders(Good):
    """Names samples by their paths."""

    def name(self, index: int) -> Any:
        return f"city/{index}"


class NamesByNumber(Good):
    """Gives numbers for names."""

    def name(self, index: int) -> Any:
        return index


class WrapsAround(Good):
    """Begins anew after the last sample."""

    def __getitem__(self, index: int) -> Item:
        return super().__getitem__(index % len(self))


class KeyErrorAtTheEnd(Good):
    """Raises another error after the last sample."""

    def __getitem__(self, index: int) -> Item:
        if index >= len(self):
            raise KeyError(index)
        return super().__getitem__(index)


class HoldsAFunction(Good):
    """Cannot be sent to another process."""

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split)
        self.transform = lambda image: image


class ForgetsWhenPickled(Good):
    """Is another data set in a data worker."""

    shift = 0

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split)
        self.shift = 1

    def __getstate__(self) -> dict[str, Any]:
        return {"split": self.split, "height": self.height}

    def change(self, image: np.ndarray, mask: np.ndarray, index: int) -> Any:
        return image ^ np.uint8(self.shift), mask
