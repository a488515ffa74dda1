"""KITTI, semantic segmentation benchmark of 2015."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from segctl.plugin import Archive

from .cityscapes import LABEL_IDS, Cityscapes
from .labels import ValueTable
from .pairs import PairDataset, check_split, pairs_by_stem

__all__ = ["KITTI"]


class KITTI(PairDataset):
    """KITTI semantic 2015: 200 training frames of about 1242 x 375 pixels with the 19 classes of Cityscapes.

    There is no validation split, nor one that papers agree on: by default the training frames are measured too, which
    tells what a model has learnt but not what it would make of other frames. The labels of the 200 test frames are not
    public. Layout: the official ``training/image_2``, ``training/semantic``, ``testing/image_2``. Masks hold the label
    ids of Cityscapes, which become its train ids. Labels were corrected in April 2018. The licence is given from
    memory: it could not be read again.
    """

    classes = Cityscapes.classes
    palette = Cityscapes.palette
    ignore_index = 255
    splits: Mapping[str, int | None] = {"train": 200}
    unlabelled_splits: Mapping[str, int | None] = {"test": 200}
    train_split = "train"
    eval_split = "train"
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
        folder, masks = ("training", "training/semantic") if split == "train" else ("testing", None)
        pairs = pairs_by_stem(Path(root), f"{folder}/image_2", ".png", masks, ".png")
        classes = {label: index for index, label in enumerate(self.labels)}
        super().__init__(root, split, pairs, ValueTable(classes, ignored=LABEL_IDS))
        if split == self.eval_split:
            self.notices += ("kitti has no validation split: measures are of the frames that a model is trained on.",)
