"""KITTI, semantic segmentation benchmark of 2015."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from segctl.plugin import Archive

from .cityscapes import LABEL_IDS, Cityscapes
from .labels import ValueTable
from .pairs import PairDataset, check_split, pairs_by_stem

__all__ = ["KITTI"]

_FIRST_HELD_OUT = "000160"  # of the frames 000000_10 to 000199_10


class KITTI(PairDataset):
    """KITTI semantic 2015: 200 training frames of about 1242 x 375 pixels with the 19 classes of Cityscapes.

    The benchmark has no validation split, nor is there one that papers agree on. So that a checkpoint is not chosen
    on the frames it was trained on, segctl holds out its own: ``val`` is the 40 frames from 000160 on, ``train`` the
    160 before them, ``trainval`` all 200, to train on for the benchmark. It is a block rather than every fifth frame
    because neighbouring numbers can be of one drive. Results on ``val`` compare with no published ones. The labels of
    the 200 test frames are not public. Layout: the official ``training/image_2``, ``training/semantic``,
    ``testing/image_2``. Masks hold the label ids of Cityscapes, which become its train ids. Labels were corrected in
    April 2018. The licence is given from memory: it could not be read again.
    """

    classes = Cityscapes.classes
    palette = Cityscapes.palette
    ignore_index = 255
    splits: Mapping[str, int | None] = {"train": 160, "val": 40, "trainval": 200}
    unlabelled_splits: Mapping[str, int | None] = {"test": 200}
    train_split = "train"
    eval_split = "val"
    layout = ("training/image_2", "training/semantic")
    labels = Cityscapes.labels
    licence = "CC BY-NC-SA 3.0"
    citation = "Abu Alhaija et al.: Augmented Reality Meets Computer Vision. IJCV 2018."
    homepage = "http://www.cvlibs.net/datasets/kitti/eval_semseg.php?benchmark=semantics2015"
    archives = (
        Archive(  # neither size nor digest are published
            url="https://s3.eu-central-1.amazonaws.com/avg-kitti/data_semantics.zip",
            provides=("training/image_2", "training/semantic", "testing/image_2"),
        ),
    )

    def __init__(self, root: Path, split: str) -> None:
        check_split("kitti", split, {**self.splits, **self.unlabelled_splits})
        folder, masks = ("testing", None) if split == "test" else ("training", "training/semantic")
        pairs = pairs_by_stem(Path(root), f"{folder}/image_2", ".png", masks, ".png")
        if split in ("train", "val"):
            pairs = [pair for pair in pairs if (pair.name >= _FIRST_HELD_OUT) == (split == "val")]
        super().__init__(root, split, pairs, ValueTable.of_labels(self.labels, ignored=LABEL_IDS))
        if split == "val":
            self.notices += ("kitti's val is segctl's own choice: the benchmark has none.",)
