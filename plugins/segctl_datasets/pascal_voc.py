"""PASCAL VOC 2012, semantic segmentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from segctl.plugin import Archive, voc_palette

from .pairs import Pair, PairDataset, check_split, read_list, refuse_missing

__all__ = ["VOC_ARCHIVE", "PascalVOC"]

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
    objects, is ignored. The labels of the test split are not public.
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
    train_split = "train"
    eval_split = "val"
    home = "pascal_voc"
    layout = (f"{_FOLDER}/JPEGImages", f"{_FOLDER}/SegmentationClass", f"{_FOLDER}/ImageSets/Segmentation")
    licence = "Annotations free for research; the photographs under Flickr's terms of use."
    citation = "Everingham et al.: The PASCAL Visual Object Classes challenge: a retrospective. IJCV 2015."
    homepage = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"
    archives = (VOC_ARCHIVE,)

    def __init__(self, root: Path, split: str) -> None:
        check_split("pascal_voc", split, self.splits)
        list_path = Path(root) / _FOLDER / "ImageSets" / "Segmentation" / f"{split}.txt"
        pairs = [
            Pair(name, f"{_FOLDER}/JPEGImages/{name}.jpg", f"{_FOLDER}/SegmentationClass/{name}.png")
            for _, name in read_list(list_path)
        ]
        refuse_missing(Path(root), pairs, f"listed in {list_path}")
        super().__init__(root, split, pairs)
