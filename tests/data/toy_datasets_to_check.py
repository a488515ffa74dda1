"""Data sets for the tests of `segctl data check`: plain ones, which only keep the contract, and one of files."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import ClassVar

import numpy as np

from segctl_datasets.pairs import Pair, PairDataset


class Plain:
    """Five samples that are made on the fly, and say nothing of files."""

    classes = ("ground", "left_wing", "right_wing", "tail")
    splits: ClassVar = {"train": 5, "val": 2}
    licence = "None."

    def __init__(self, root: Path, split: str, *, faulty: bool = False, many: int = 0) -> None:
        self.split, self.faulty = split, faulty
        self._length = many or self.splits[split]

    def __len__(self) -> int:
        return self._length

    def name(self, index: int) -> str:
        return f"{self.split}-{index}"

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        seed = [index, self.split == "val"]
        image = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)
        mask = np.arange(1600, dtype=np.int64).reshape(40, 40) % 4
        if self.faulty and self.split == "train":
            image, mask = self._spoilt(index, image, mask)
        return image, mask

    def _spoilt(self, index: int, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if index == 0:
            return image.astype(np.float32), mask
        if index == 1:
            return image[:-1], mask
        if index == 2:
            return image, np.where(mask == 3, 77, mask)
        if index == 3:
            raise RuntimeError("no index")
        return Plain(Path(), "val")[1]  # the last one is a picture of val


class Sides(Plain):
    """Pairs that cannot be, beside one that is missing."""

    flip_pairs = ((3, 9), (0, 3))


class Slow(Plain):
    """Each sample takes a moment; a file tells that workers have begun."""

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split, many=10_000)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        Path(os.environ["TOY_MARK"], str(os.getpid())).touch()
        time.sleep(0.05)
        return super().__getitem__(index)


class Hungry(Plain):
    """The memory of the machine runs out at one of the samples."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if self.split == "train" and index == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


class Unions(PairDataset):
    """Six pairs, of which one split has four, another two, and a third all."""

    classes = ("ground", "thing")
    splits: ClassVar = {"train": 4, "val": 2, "trainval": 6}
    layout = ("files",)
    licence = "None."
    indices: ClassVar = {"train": range(4), "val": range(4, 6), "trainval": range(6)}

    def __init__(self, root: Path, split: str) -> None:
        pairs = [Pair(f"{i}", f"files/{i}.png", f"files/{i}_mask.png") for i in self.indices[split]]
        super().__init__(root, split, pairs)


class Served(PairDataset):
    """Its test split's labels are known to a server alone."""

    classes = ("ground", "thing")
    splits: ClassVar = {"train": 2, "val": 2}
    unlabelled_splits: ClassVar = {"test": 2}
    layout = ("files",)
    licence = "None."
    indices: ClassVar = {"train": (0, 1), "val": (2, 3), "test": (4, 5)}

    def __init__(self, root: Path, split: str) -> None:
        masks = "" if split == "test" else "files/{}_mask.png"
        super().__init__(root, split, [Pair(f"{i}", f"files/{i}.png", masks.format(i)) for i in self.indices[split]])
