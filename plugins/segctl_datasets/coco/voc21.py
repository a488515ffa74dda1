"""COCO 2017 as further training data for PASCAL VOC: its instances of VOC's 20 classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from segctl.errors import DataError

from ..pairs import Pair, PairDataset, check_split, read_list, refuse_missing
from ..pascal_voc import PascalVOC
from . import masks
from .archives import ANNOTATIONS, HOMEPAGE, PHOTOGRAPHS

__all__ = ["COCO"]


class COCO(PairDataset):
    """COCO 2017 with the 21 classes of PASCAL VOC, so that a model goes from one to the other.

    Masks are made of the annotations once, by ``segctl download coco`` or ``segctl data prepare coco``: an instance of
    one of the 20 kinds is its class; where two overlap, the one that the file names first stays (as in GluonCV); a
    crowd, of which no instance is told from the other, is ignored where no instance lies on it; all else is background.
    Photographs of which at most 1000 pixels are one of the 20 kinds are left out. How many remain depends on
    how overlaps and crowds are treated; no number is published for this way.

    Layout: ``train2017``, ``val2017`` and ``annotations`` as the archives hold them. The masks are put beside them, in
    ``voc21_masks``.
    """

    classes = PascalVOC.classes
    palette = PascalVOC.palette
    ignore_index = 255
    splits: Mapping[str, int | None] = {"train": None, "val": None}
    train_split = "train"
    eval_split = "val"
    home = "coco"
    layout = ("train2017", "val2017", "annotations")
    licence = "CC BY 4.0 for the annotations; the photographs under Flickr's terms of use."
    citation = "Lin et al.: Microsoft COCO: Common Objects in Context. ECCV 2014."
    homepage = HOMEPAGE
    archives = (*PHOTOGRAPHS, ANNOTATIONS)

    def __init__(self, root: Path, split: str) -> None:
        check_split("coco", split, self.splits)
        root = Path(root)
        list_path = masks.list_path(root, split)
        if not list_path.exists():
            raise DataError(
                f"The masks of coco's split {split} have not been made of its annotations: there is no {list_path}.",
                "'segctl data prepare coco' makes them, once, and 'segctl download coco' does so by itself.",
            )
        images, folder = f"{split}2017", masks.folder(split)
        pairs = [Pair(name, f"{images}/{name}.jpg", f"{folder}/{name}.png") for _, name in read_list(list_path)]
        refuse_missing(root, pairs, f"listed in {list_path}")
        super().__init__(root, split, pairs)

    @classmethod
    def prepare(cls, root: Path, progress: Callable[[int, int], None]) -> None:
        """Makes the masks of both splits; takes pycocotools (``segctl[datasets]``).

        Raises:
            DataError: The annotations are missing or damaged, or pycocotools is not installed.
        """
        masks.make(root, tuple(cls.splits), progress)
