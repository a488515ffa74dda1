"""PASCAL VOC 2012, semantic segmentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from segctl.errors import DataError
from segctl.plugin import Archive, voc_palette

from .pairs import Pair, PairDataset, check_split, read_list, refuse_missing

__all__ = ["VOC_ARCHIVE", "PascalVOC", "list_path", "submission_path", "voc_pair", "voc_pairs"]

_FOLDER = "VOCdevkit/VOC2012"

# Digests as torchvision (MD5) and TensorFlow Datasets (size, SHA-256) publish them.
VOC_ARCHIVE = Archive(
    url="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
    mirrors=(
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "http://pjreddie.com/media/files/VOCtrainval_11-May-2012.tar",
    ),
    size=1_999_639_040,
    md5="6cd6e144f989b92b3379bac3b3de84fd",
    sha1="4e443f8a2eca6b1dac8a6c57641b67dd40621a49",
    sha256="e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
    provides=(f"{_FOLDER}/JPEGImages", f"{_FOLDER}/SegmentationClass", f"{_FOLDER}/ImageSets/Segmentation"),
)


class PascalVOC(PairDataset):
    """PASCAL VOC 2012: 20 kinds of objects and background; 1464 training and 1449 validation photographs.

    Layout: the official ``VOCdevkit/VOC2012``. Masks are palette PNGs whose index is the class; 255, the border of
    objects, is ignored. The labels of the test split are not public, and its photographs, of an archive of their own
    (VOC2012test.tar), are not downloaded. A submission is made for competition 6, which allows any training data.
    """

    classes = (
        "background",
        "aeroplane",
        "bicycle",
        "bird",
        "boat",
        "bottle",
        "bus",
        "car",
        "cat",
        "chair",
        "cow",
        "diningtable",
        "dog",
        "horse",
        "motorbike",
        "person",
        "pottedplant",
        "sheep",
        "sofa",
        "train",
        "tvmonitor",
    )
    palette = voc_palette(len(classes))
    ignore_index = 255
    splits: Mapping[str, int | None] = {"train": 1464, "val": 1449, "trainval": 2913}
    unlabelled_splits: Mapping[str, int | None] = {"test": 1456}
    train_split = "train"
    eval_split = "val"
    home = "pascal_voc"
    layout = VOC_ARCHIVE.provides
    licence = "Annotations free for research; the photographs under Flickr's terms of use."
    citation = "Everingham et al.: The PASCAL Visual Object Classes challenge: a retrospective. IJCV 2015."
    homepage = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"
    archives = (VOC_ARCHIVE,)

    def __init__(self, root: Path, split: str) -> None:
        check_split("pascal_voc", split, {**self.splits, **self.unlabelled_splits})
        pairs = voc_pairs(Path(root), split)
        refuse_missing(Path(root), pairs, f"listed in {list_path(Path(root), split)}")
        super().__init__(root, split, pairs)

    def submission_path(self, index: int) -> str:
        return submission_path(self.split, self.name(index))


def list_path(root: Path, split: str) -> Path:
    """VOC's list of a split."""
    return root / _FOLDER / "ImageSets" / "Segmentation" / f"{split}.txt"


def voc_pairs(root: Path, split: str) -> list[Pair]:
    """The photographs of a split with VOC's masks, in the order of its list.

    Raises:
        DataError: The list is missing.
    """
    path = list_path(root, split)
    if split == "test" and not path.exists():
        raise DataError(
            f"The photographs of VOC's test split are not here: there is no {path}.",
            "They are in VOC2012test.tar, which the benchmark's server gives to who registers and "
            f"http://pjreddie.com/media/files/VOC2012test.tar to all. Unpack it in {root}.",
        )
    return [voc_pair(name, labelled=split != "test") for _, name in read_list(path)]


def voc_pair(name: str, *, labelled: bool = True) -> Pair:
    mask = f"{_FOLDER}/SegmentationClass/{name}.png" if labelled else ""
    return Pair(name, f"{_FOLDER}/JPEGImages/{name}.jpg", mask)


def submission_path(split: str, name: str) -> str:
    """Where VOC's development kit and server want a prediction of competition 6."""
    return f"results/VOC2012/Segmentation/comp6_{split}_cls/{name}.png"
