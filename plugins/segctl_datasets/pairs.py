"""Data sets that are pairs of files: an image and the mask that belongs to it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segctl.errors import DataError, did_you_mean, listing
from segctl.plugin import tolerates_faults

from .labels import ValueTable
from .reading import Upright, read_image, read_mask, read_rows

__all__ = ["Pair", "PairDataset", "check_split", "pairs_by_stem", "read_list", "refuse_missing", "size_mismatch"]


class Pair(NamedTuple):
    """A sample's name and its two files relative to the data set's root; without public labels `mask` is empty."""

    name: str
    image: str
    mask: str


class PairDataset:
    """What data sets of image and mask files share: indexing, decoding, and the checks on each pair.

    A subclass declares `classes` and `ignore_index` and calls ``super().__init__`` with its pairs. Masks hold class
    indices as stored unless it passes a `ValueTable`.

    Attributes:
        notices: What a person should know about the data as they were found, one sentence each.
    """

    classes: tuple[str, ...] = ()
    ignore_index: int = 255
    splits: Mapping[str, int | None] = {}
    unlabelled_splits: Mapping[str, int | None] = {}

    def __init__(self, root: Path, split: str, pairs: Sequence[Pair], table: ValueTable | None = None) -> None:
        self.root = Path(root)
        self.split = split
        self.pairs = tuple(pairs)
        self.notices: tuple[str, ...] = ()
        self._table = table or ValueTable.of_labels(
            range(len(self.classes)), ignored=[self.ignore_index], ignore_index=self.ignore_index
        )
        published = {**self.splits, **self.unlabelled_splits}.get(split)
        if published is not None and published != len(self.pairs):
            plural = "s" * (len(self.pairs) != 1)
            self.notices += (f"{split} has {len(self.pairs)} sample{plural} here, {published} are published.",)

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        return self.pairs[index].name

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, 3) uint8 RGB and mask (H, W) uint8 of class indices and `ignore_index`.

        Where labels are not public, the mask ignores every pixel.

        Raises:
            DataError: A file is missing or damaged, the sizes differ, or the mask holds an undeclared value.
        """
        pair = self.pairs[index]
        if not pair.mask:
            return self._unlabelled(pair)
        return self._read(self.root / pair.image, self.root / pair.mask)

    def read(self, index: int, rows: Callable[[np.ndarray], int]) -> tuple[np.ndarray, np.ndarray]:
        """As `__getitem__`, but the image may end after as many rows as `rows` says of the mask."""
        pair = self.pairs[index]
        return self._read(self.root / pair.image, self.root / pair.mask, rows) if pair.mask else self[index]

    def mask(self, index: int) -> np.ndarray:
        """The mask of a sample without its image, which takes longer to decode. Raises as `__getitem__` does."""
        pair = self.pairs[index]
        return self._mask(self.root / pair.mask) if pair.mask else self._unlabelled(pair)[1]

    def files(self, index: int) -> tuple[str, ...]:
        """Paths of the image and the mask, relative to `root`; of the image alone where labels are not public."""
        pair = self.pairs[index]
        return (pair.image, pair.mask) if pair.mask else (pair.image,)

    def fingerprint(self) -> str | None:
        """Changes whenever a mask of the split may have: told by the names, sizes and times of the files.

        None where a file cannot be looked at.
        """
        digest = hashlib.sha256(repr((str(self.root.absolute()), self._meaning())).encode())
        try:
            for pair in (pair for pair in self.pairs if pair.mask):
                file = os.stat(self.root / pair.mask)
                # The time of change too: a copy may keep the time of modification.
                digest.update(repr((pair.mask, file.st_size, file.st_mtime_ns, file.st_ctime_ns)).encode())
        except OSError:
            return None
        return digest.hexdigest()

    def _unlabelled(self, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        image = read_image(self.root / pair.image)
        return image, np.full(image.shape[:2], self.ignore_index, np.uint8)

    def _meaning(self) -> object:
        """What stored values stand for, as something whose repr tells it."""
        return self._table.class_of()

    def _mask(self, path: Path) -> np.ndarray:
        return self._table.to_classes(read_mask(path), path)

    def _upright(self, path: Path, mask: np.ndarray) -> Upright | None:
        """Whether an image is to be turned for its mask: see `read_image`."""
        return None

    def _read(
        self, image_path: Path, mask_path: Path, rows: Callable[[np.ndarray], int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        mask = self._mask(mask_path)
        upright = self._upright(image_path, mask)
        if rows is not None:
            part = read_rows(image_path, rows(mask), mask.shape, upright=upright)
            if part is not None:
                return part, mask
        image = read_image(image_path, upright=upright)
        if image.shape[:2] != mask.shape:
            raise size_mismatch(image_path, image.shape, mask_path, mask.shape)
        return image, mask


def size_mismatch(image_path: Path, image: Sequence[int], mask_path: Path, mask: Sequence[int]) -> DataError:
    return DataError(
        f"{mask_path} is {mask[1]} x {mask[0]} pixels, but its image {image_path} is {image[1]} x {image[0]}.",
        "A mask must cover its image pixel by pixel.",
    )


def check_split(dataset: str, split: str, splits: Iterable[str]) -> None:
    """Refuses a split that the data set does not have."""
    known = tuple(splits)
    if split not in known:
        raise DataError(f"{dataset} has no split {split!r}; it has {listing(known)}.", did_you_mean(split, known))


def read_list(path: Path) -> list[tuple[int, str]]:
    """The entries of a split list with their line numbers; blank lines are none.

    Raises:
        DataError: The list is missing, empty or not text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(
            f"The split list {path} does not exist.", "The data set is incomplete, or has no such split."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The split list {path} cannot be read: {error}.") from error
    entries = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not entries:
        raise DataError(f"The split list {path} is empty.")
    return entries


def pairs_by_stem(root: Path, images: str, image_suffix: str, masks: str | None, mask_suffix: str) -> list[Pair]:
    """Each image of the folder `images` with the mask of the same name in the folder `masks`, sorted by name.

    Args:
        masks: None where labels are not public.

    Raises:
        DataError: There is no image, or one without its mask.
    """
    folder = root / images
    stems = sorted(name.removesuffix(image_suffix) for name in _names_in(folder) if name.endswith(image_suffix))
    if not stems:
        raise DataError(
            f"There is no *{image_suffix} in {folder}.", "The data set is incomplete, or has no such split."
        )
    mask_of = {stem: f"{masks}/{stem}{mask_suffix}" if masks else "" for stem in stems}
    pairs = [Pair(stem, f"{images}/{stem}{image_suffix}", mask_of[stem]) for stem in stems]
    refuse_missing(root, pairs, f"the mask of an image in {folder}")
    return pairs


def refuse_missing(root: Path, pairs: Sequence[Pair], why: str) -> None:
    """Refuses pairs of which a file is not there: an incomplete data set is found before training, not during it.

    Each folder is listed once instead of asking for each file: on network file systems that is much faster. `why` says
    what makes one expect the files, such as "listed in train.txt". Within `tolerating_faults` nothing is refused.
    """
    if tolerates_faults():
        return
    folders: dict[str, set[str]] = {}
    missing = []
    for path in (path for pair in pairs for path in (pair.image, pair.mask) if path):
        folder, _, name = path.rpartition("/")
        if folder not in folders:
            folders[folder] = _names_in(root / folder)
        if name not in folders[folder]:
            missing.append(path)
    if missing:
        others = len(missing) - 1
        more = "" if not others else ", nor does another file" if others == 1 else f", nor do {others} more files"
        raise DataError(
            f"{root / missing[0]}, {why}, does not exist{more}.",
            "The data set is incomplete; unpack it again.",
        )


def _names_in(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()
