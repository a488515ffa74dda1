"""Oxford-IIIT Pet: cats and dogs of 37 breeds, cut out of their background."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from segctl.errors import DataError
from segctl.plugin import Archive

from .labels import ValueTable
from .pairs import Pair, PairDataset, check_split, read_list, refuse_missing

__all__ = ["OxfordPet"]

_FOREGROUND, _BACKGROUND, _BORDER = 1, 2, 3
_SERVER = "https://www.robots.ox.ac.uk/~vgg/data/pets/data"


class OxfordPet(PairDataset):
    """Oxford-IIIT Pet: 3680 training and 3669 test photographs, each pixel pet or background.

    The classes are those of the trimaps, not the breeds: 1 is the pet, 2 the background, and 3, the border that was
    not decided, is ignored. Layout: ``images`` and ``annotations`` as the two archives hold them; the lists
    ``annotations/trainval.txt`` and ``test.txt`` say what belongs to which split.
    """

    classes = ("background", "pet")
    palette = ((0, 0, 0), (230, 159, 0))
    ignore_index = 255
    splits: Mapping[str, int | None] = {"trainval": 3680, "test": 3669}
    train_split = "trainval"
    eval_split = "test"
    layout = ("images", "annotations/trimaps", "annotations/trainval.txt", "annotations/test.txt")
    licence = "CC BY-SA 4.0"
    citation = "Parkhi et al.: Cats and Dogs. CVPR 2012."
    homepage = "https://www.robots.ox.ac.uk/~vgg/data/pets/"
    archives = (
        Archive(  # MD5 from torchvision, size and SHA-256 from TensorFlow Datasets, here and below
            url=f"{_SERVER}/images.tar.gz",
            mirrors=("https://thor.robots.ox.ac.uk/pets/images.tar.gz",),
            size=791_918_971,
            md5="5c4f3ee8e5d25df40f4fd59a7f44e54c",
            sha256="67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
            provides=("images",),
        ),
        Archive(
            url=f"{_SERVER}/annotations.tar.gz",
            mirrors=("https://thor.robots.ox.ac.uk/pets/annotations.tar.gz",),
            size=19_173_078,
            md5="95a8c909bbe2e81eed6a22bccdf3f68f",
            sha256="52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
            provides=("annotations/trimaps", "annotations/trainval.txt", "annotations/test.txt"),
        ),
    )

    def __init__(self, root: Path, split: str) -> None:
        check_split("oxford_pet", split, self.splits)
        list_path = Path(root) / "annotations" / f"{split}.txt"
        pairs = [_pair(line, f"{list_path}:{number}") for number, line in read_list(list_path) if line[0] != "#"]
        refuse_missing(Path(root), pairs, f"listed in {list_path}")
        super().__init__(root, split, pairs, ValueTable({_BACKGROUND: 0, _FOREGROUND: 1}, ignored=[_BORDER]))


def _pair(line: str, where: str) -> Pair:
    """``"Abyssinian_100 1 1 1"``: a photograph's name, then its class, species and breed, which are not needed."""
    fields = line.split()
    if len(fields) != 4:
        raise DataError(f"{where} should hold a name and three numbers, but reads {line!r}.")
    name = fields[0]
    return Pair(name, f"images/{name}.jpg", f"annotations/trimaps/{name}.png")
