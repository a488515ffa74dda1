"""The data set of a person's own files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from segctl.errors import DataError, did_you_mean, listing

from ..labels import undeclared_colors
from ..pairs import PairDataset
from ..reading import Upright, read_mask
from .classes import IGNORE_INDEX, decide_classes
from .files import Masks, images_in
from .splits import SPLITS, Splits, find_splits

__all__ = ["Folder"]


class Folder(PairDataset):
    """Your own data: ``images/`` and ``masks/`` with matching names, sub-folders included.

    Splits: lists ``train.txt``, ``val.txt`` (and ``test.txt``) of image names, else the sub-folders ``images/train``
    and ``images/val`` with their like below ``masks/``, else some images are held out by a hash of their names. Each
    image falls by its own name, so that images added later move no other one; of few images the share can be far from
    `val_fraction`: 4 of 40 instead of 8 is no accident.

    The hash knows nothing of what is in the pictures: of a video, neighbouring frames come to lie on both sides, and
    measures are too good. Write lists there that put whole videos, places or patients on one side.

    Classes: ``classes.yaml`` beside ``images/`` with ``names`` and, where needed, ``values`` (the mask's value of each
    class), ``colors`` and ``ignore``; else the values found in all masks, without 255 and those of `ignore`. Masks that
    hold only 0 and 255 are background and foreground. Palette masks count by index, whatever their colours; RGB masks
    need ``colors``.

    Args:
        classes: The class file, relative to the data's folder; default is classes.yaml if it exists.
        ignore: Mask value, or values such as [11,12], that are no class: neither trained on nor measured.
        val_fraction: Chance of each image to be held out for validation where neither lists nor sub-folders say.
        mask_suffix: What a mask's name has more than its image's, such as _mask.
        threshold: For two classes, mask values from this one on are foreground; JPEG and anti-aliased masks need it.
        exif: Whether masks lie on the upright picture or on the stored pixels; auto is whichever has the mask's size.

    Raises:
        DataError: An image without its mask or the reverse, a wrong list or class file, or masks that suggest no
        classes.
    """

    splits: Mapping[str, int | None] = dict.fromkeys(SPLITS)
    train_split = "train"
    eval_split = "val"
    ignore_index = IGNORE_INDEX
    layout = ("images", "masks")
    licence = "Yours."

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        classes: str | None = None,
        ignore: int | tuple[int, ...] = (),
        val_fraction: float = 0.2,
        mask_suffix: str = "",
        threshold: int | None = None,
        exif: Literal["auto", "upright", "stored"] = "auto",
    ) -> None:
        root = Path(root)
        ignored = (ignore,) if isinstance(ignore, int) else tuple(ignore)
        _refuse_out_of_range(val_fraction, threshold, ignored)
        images = images_in(root)
        masks = Masks(root, mask_suffix, lossy=threshold is not None)
        splits = find_splits(root, images, val_fraction)
        if split not in splits.names:
            raise _no_split(root, split, splits)

        # train and val are looked at whichever is opened: classes must be the same for all splits of a folder.
        pairs = {
            name: masks.pairs(splits.names[name], images) for name in splits.names if name in ("train", "val", split)
        }
        if splits.how != "lists":
            masks.refuse_orphans(
                [pair.name for name in pairs for pair in pairs[name]], pairs if splits.how == "folders" else ()
            )
        labelled = [pair.mask for name in ("train", "val") for pair in pairs.get(name, ())]
        decided = decide_classes(root, labelled, classes, threshold, ignored)

        self.classes, self.palette, self.labels = decided.names, decided.palette, decided.labels
        self.splits = dict.fromkeys(splits.names)
        super().__init__(root, split, pairs[split], decided.values)
        self.notices = (*splits.notices, *decided.notices)
        self._colors = decided.colors
        self._exif = exif

    def _meaning(self) -> object:
        return super()._meaning(), self._colors and self._colors.class_of()

    def _mask(self, path: Path) -> np.ndarray:
        values = read_mask(path, as_colors=self._colors is not None)
        if values.ndim == 2:
            return self._table.to_classes(values, path)
        if self._colors:
            return self._colors.to_classes(values, path)
        raise undeclared_colors(path, values)

    def _upright(self, path: Path, mask: np.ndarray) -> Upright:
        return lambda orientation, stored: self._is_upright(orientation, stored, mask.shape, path)

    def _is_upright(self, orientation: int, stored: tuple[int, int], mask: tuple[int, ...], path: Path) -> bool:
        """Whether the mask lies on the picture as viewers show it, turned by its EXIF orientation (1 to 8)."""
        if self._exif != "auto":
            return self._exif == "upright"
        shown = stored[::-1] if orientation >= 5 else stored
        if shown != stored:
            return mask == shown
        raise DataError(
            f"{path} is to be turned or mirrored for display (EXIF orientation {orientation}), and its mask's size "
            "does not tell whether the mask is, too.",
            "Say --dataset.exif upright if the masks were drawn on the picture as it is shown (labelme, CVAT and "
            "OpenCV do so), or --dataset.exif stored.",
        )


def _refuse_out_of_range(val_fraction: float, threshold: int | None, ignored: Sequence[int]) -> None:
    if not 0 < val_fraction < 1:
        raise DataError(f"The option val_fraction is {val_fraction}, but must lie between 0 and 1.")
    if threshold is not None and not 1 <= threshold <= 255:
        raise DataError(f"The option threshold is {threshold}, but must lie between 1 and 255.")
    for value in ignored:
        if not 0 <= value <= 255:
            raise DataError(f"The option ignore has {value}, but values of masks must lie between 0 and 255.")


def _no_split(root: Path, split: str, splits: Splits) -> DataError:
    way_out = {
        "lists": f"Write the list {root / split}.txt.",
        "folders": f"Put its images into {root / 'images' / split} and its masks into {root / 'masks' / split}.",
        "hash": f"Lists beside images/, one of them {split}.txt, would divide the images otherwise.",
    }[splits.how]
    near = did_you_mean(split, splits.names)
    return DataError(f"{root} has no split {split!r}; it has {listing(splits.names)}.", near or way_out)
