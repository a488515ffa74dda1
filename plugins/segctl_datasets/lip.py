"""LIP, Look into Person: the parts of people and of what they wear."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from segctl.plugin import Archive

from .pairs import PairDataset, check_split, pairs_by_stem

__all__ = ["LIP"]

_IMAGES, _MASKS = "TrainVal_images", "TrainVal_parsing_annotations"
_FETCH = (
    "Fetch {file} with a browser from "
    "https://drive.google.com/drive/folders/0BzvH3bSnp3E9ZW9paE9kdkJtM3M?resourcekey=0-vgKJX42GVFaAwjhEWAncjQ"
    ", which http://sysu-hcp.net/lip/ links, and hand it over with --from."
)


class LIP(PairDataset):
    """LIP, single person: 30462 training and 10000 validation photographs, 19 parts of a person and background.

    Left and right are the person's own, so that a mirrored image swaps the classes of arms, legs and shoes. Layout:
    ``TrainVal_images/{train,val}_images`` and ``TrainVal_parsing_annotations/{train,val}_segmentations``; a mask's
    value is the class. The 10000 test photographs, whose labels are not public, are no split here: where their
    archive puts them is told in different ways, and none could be tried. The archives are on Google Drive alone,
    where a mirror reports them dead; no digests are published. The licence is given from memory: the homepage could
    not be read again.
    """

    classes = (
        "background",
        "hat",
        "hair",
        "glove",
        "sunglasses",
        "upper clothes",
        "dress",
        "coat",
        "socks",
        "pants",
        "jumpsuits",
        "scarf",
        "skirt",
        "face",
        "left arm",
        "right arm",
        "left leg",
        "right leg",
        "left shoe",
        "right shoe",
    )
    palette = (
        (0, 0, 0),
        (128, 0, 0),
        (255, 0, 0),
        (0, 85, 0),
        (170, 0, 51),
        (255, 85, 0),
        (0, 0, 85),
        (0, 119, 221),
        (85, 85, 0),
        (0, 85, 85),
        (85, 51, 0),
        (52, 86, 128),
        (0, 128, 0),
        (0, 0, 255),
        (51, 170, 221),
        (0, 255, 255),
        (85, 255, 170),
        (170, 255, 85),
        (255, 255, 0),
        (255, 170, 0),
    )
    ignore_index = 255
    splits: Mapping[str, int | None] = {"train": 30462, "val": 10000}
    train_split = "train"
    eval_split = "val"
    flip_pairs = ((14, 15), (16, 17), (18, 19))
    layout = (f"{_IMAGES}/train_images", f"{_MASKS}/train_segmentations")
    licence = "Non-commercial research only."
    citation = "Gong et al.: Look into Person: Self-supervised Structure-sensitive Learning. CVPR 2017."
    homepage = "http://sysu-hcp.net/lip/"
    archives = (
        Archive(
            file="TrainVal_images.zip",
            provides=(f"{_IMAGES}/train_images", f"{_IMAGES}/val_images"),
            manual=_FETCH.format(file="TrainVal_images.zip"),
        ),
        Archive(
            file="TrainVal_parsing_annotations.zip",
            provides=(f"{_MASKS}/train_segmentations", f"{_MASKS}/val_segmentations"),
            manual=_FETCH.format(file="TrainVal_parsing_annotations.zip"),
        ),
    )

    def __init__(self, root: Path, split: str) -> None:
        check_split("lip", split, self.splits)
        images, masks = f"{_IMAGES}/{split}_images", f"{_MASKS}/{split}_segmentations"
        super().__init__(root, split, pairs_by_stem(Path(root), images, ".jpg", masks, ".png"))
