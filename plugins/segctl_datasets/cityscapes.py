"""Cityscapes: streets of 50 cities, seen from a car."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from segctl.errors import DataError
from segctl.plugin import Archive

from .labels import ValueTable
from .pairs import Pair, PairDataset, check_split, refuse_missing

__all__ = ["LABEL_IDS", "Cityscapes"]

_IMAGE, _MASK = "_leftImg8bit.png", "_gtFine_labelIds.png"
# All that the benchmark's labels.py declares, as stored in 8 bits: -1, the licence plate, is 255.
LABEL_IDS = (*range(34), 255)


class Cityscapes(PairDataset):
    """Cityscapes, fine annotations: 2975 training and 500 validation frames of 2048 x 1024 pixels, 19 classes.

    Layout: the official ``leftImg8bit/<split>/<city>`` and ``gtFine/<split>/<city>``. Masks are read from the
    ``labelIds`` files, whose ids become the benchmark's 19 train ids; all other ids are ignored. Predictions are
    written as label ids, as the benchmark's server wants them. The labels of the test split are not public: the masks
    that the archive holds for it are dummies, and not read.
    """

    classes = (
        "road",
        "sidewalk",
        "building",
        "wall",
        "fence",
        "pole",
        "traffic light",
        "traffic sign",
        "vegetation",
        "terrain",
        "sky",
        "person",
        "rider",
        "car",
        "truck",
        "bus",
        "train",
        "motorcycle",
        "bicycle",
    )
    palette = (
        (128, 64, 128),
        (244, 35, 232),
        (70, 70, 70),
        (102, 102, 156),
        (190, 153, 153),
        (153, 153, 153),
        (250, 170, 30),
        (220, 220, 0),
        (107, 142, 35),
        (152, 251, 152),
        (70, 130, 180),
        (220, 20, 60),
        (255, 0, 0),
        (0, 0, 142),
        (0, 0, 70),
        (0, 60, 100),
        (0, 80, 100),
        (0, 0, 230),
        (119, 11, 32),
    )
    ignore_index = 255
    splits: Mapping[str, int | None] = {"train": 2975, "val": 500}
    unlabelled_splits: Mapping[str, int | None] = {"test": 1525}
    train_split = "train"
    eval_split = "val"
    home = "cityscapes"
    layout = ("leftImg8bit", "gtFine")
    labels = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
    licence = "Free for non-commercial purposes after registration; see the homepage."
    citation = "Cordts et al.: The Cityscapes Dataset for Semantic Urban Scene Understanding. CVPR 2016."
    homepage = "https://www.cityscapes-dataset.com"
    archives = (
        Archive(
            url="https://www.cityscapes-dataset.com/file-handling/?packageID=1",
            file="gtFine_trainvaltest.zip",
            md5="4237c19de34c8a376e9ba46b495d6f66",
            sha1="99f532cb1af174f5fcc4c5bc8feea8c66246ddbc",
            provides=("gtFine",),
            login="cityscapes",
        ),
        Archive(
            url="https://www.cityscapes-dataset.com/file-handling/?packageID=3",
            file="leftImg8bit_trainvaltest.zip",
            md5="0a6e97e94b616a514066c9e2adb0c97f",
            sha1="2c0b77ce9933cc635adda307fbba5566f5d9d404",
            provides=("leftImg8bit",),
            login="cityscapes",
        ),
    )

    def __init__(self, root: Path, split: str) -> None:
        check_split("cityscapes", split, {**self.splits, **self.unlabelled_splits})
        images = Path(root) / "leftImg8bit" / split
        found = sorted(images.glob(f"*/*{_IMAGE}"))
        if not found:
            raise DataError(
                f"There is no image *{_IMAGE} in the folders of cities in {images}.",
                "Unpack leftImg8bit_trainvaltest.zip there.",
            )
        frames = [(path.parent.name, path.name.removesuffix(_IMAGE)) for path in found]
        labelled = split in self.splits
        pairs = [
            Pair(
                frame,
                f"leftImg8bit/{split}/{city}/{frame}{_IMAGE}",
                f"gtFine/{split}/{city}/{frame}{_MASK}" if labelled else "",
            )
            for city, frame in frames
        ]
        refuse_missing(Path(root), pairs, f"the mask of an image in {images}")
        super().__init__(root, split, pairs, ValueTable.of_labels(self.labels, ignored=LABEL_IDS))

    def submission_path(self, index: int) -> str:
        """The server takes any name that begins with the frame's (cityscapesScripts, getPrediction)."""
        return f"{self.name(index)}_pred_labelIds.png"
