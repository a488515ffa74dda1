"""SBU: shadows in photographs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from segctl.plugin import Archive

from .labels import ValueTable
from .linking import link_up
from .pairs import PairDataset, check_split, pairs_by_stem

__all__ = ["SBUShadow"]

_FOLDER_OF = {"train": "SBUTrain4KRecoveredSmall", "test": "SBU-Test"}
_UNPACKED = "SBU-shadow"


class SBUShadow(PairDataset):
    """SBU Shadow: 4085 training and 638 test photographs, each pixel in shadow or not.

    Layout: the folders ``SBUTrain4KRecoveredSmall`` and ``SBU-Test`` of the official archive, each with
    ``ShadowImages`` and ``ShadowMasks``. Masks are black and white with the noise of JPEG between: 128 and more is
    shadow. The paper speaks of 4089 training photographs, the archive's README of 4085.
    """

    classes = ("background", "shadow")
    palette = ((0, 0, 0), (255, 255, 255))
    ignore_index = 255
    splits: Mapping[str, int | None] = {"train": 4085, "test": 638}
    train_split = "train"
    eval_split = "test"
    home = "sbu_shadow"
    layout = tuple(_FOLDER_OF.values())
    licence = "Non-commercial research only."
    citation = (
        "Vicente et al.: Large-Scale Training of Shadow Detectors with Noisily-Annotated Shadow Examples. ECCV 2016."
    )
    homepage = "https://www3.cs.stonybrook.edu/~cvl/projects/shadow_noisy_label/index.html"
    archives = (
        Archive(  # the digest is a third party's: the authors publish none
            url="https://www3.cs.stonybrook.edu/~cvl/content/datasets/shadow_db/SBU-shadow.zip",
            mirrors=("http://www3.cs.stonybrook.edu/~cvl/content/datasets/shadow_db/SBU-shadow.zip",),
            sha256="8ac703bc4ec0cf3f57e128a6e7a8ed73680d9f68e4e22d08fc83a3f60c612109",
            provides=tuple(f"{_UNPACKED}/{folder}" for folder in _FOLDER_OF.values()),
        ),
    )

    def __init__(self, root: Path, split: str) -> None:
        check_split("sbu_shadow", split, self.splits)
        folder = _FOLDER_OF[split]
        pairs = pairs_by_stem(Path(root), f"{folder}/ShadowImages", ".jpg", f"{folder}/ShadowMasks", ".png")
        super().__init__(root, split, pairs, ValueTable({value: int(value >= 128) for value in range(256)}))

    @classmethod
    def prepare(cls, root: Path, progress: Callable[[int, int], None]) -> None:
        """Links the two folders to where they are read."""
        link_up(root, _UNPACKED, cls.layout, progress)
