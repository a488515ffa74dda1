"""PASCAL VOC 2012 with the further annotations of the Semantic Boundaries Dataset (SBD)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from segctl.errors import DataError
from segctl.plugin import Archive

from .pairs import Pair, PairDataset, check_split, read_list, refuse_missing
from .pascal_voc import VOC_ARCHIVE, PascalVOC, list_path, submission_path, voc_pair, voc_pairs

__all__ = ["PascalAug"]

_SBD = "benchmark_RELEASE/dataset"


class PascalAug(PairDataset):
    """VOC 2012 with SBD's annotations: 10582 photographs to train on, evaluated on VOC's 1449.

    The split ``trainaug`` is all that SBD and VOC's train list annotate, without VOC's val: the lists that SBD comes
    with hold many photographs of VOC's val, so that a model trained on them has seen what it is measured on. Those
    lists are offered as they are under the names ``sbd_train`` and ``sbd_val``.

    A photograph that VOC's train list names has VOC's mask, with borders that are ignored; all others have SBD's,
    which know no border. Layout: ``VOCdevkit/VOC2012`` and, beside it, ``benchmark_RELEASE/dataset``. SBD's masks are
    MATLAB files: reading them takes scipy (``pip install "segctl[datasets]"``).
    """

    classes = PascalVOC.classes
    palette = PascalVOC.palette
    ignore_index = 255
    splits: Mapping[str, int | None] = {"trainaug": 10582, "val": 1449, "sbd_train": 8498, "sbd_val": 2857}
    unlabelled_splits = PascalVOC.unlabelled_splits
    train_split = "trainaug"
    eval_split = "val"
    home = "pascal_voc"
    layout = (*PascalVOC.layout, f"{_SBD}/img", f"{_SBD}/cls")
    licence = "Annotations free for research; the photographs under Flickr's terms of use."
    citation = "Hariharan et al.: Semantic Contours from Inverse Detectors. ICCV 2011."
    homepage = "http://home.bharathh.info/pubs/codes/SBD/download.html"
    archives = (
        VOC_ARCHIVE,
        Archive(  # digests as torchvision publishes them; no exact size is published
            url="http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
            mirrors=(
                "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
            ),
            md5="82b4d87ceb2ed10f6038a1cba92111cb",
            sha1="7129e0a480c2d6afb02b517bb18ac54283bfaa35",
            provides=(f"{_SBD}/img", f"{_SBD}/cls", f"{_SBD}/train.txt", f"{_SBD}/val.txt"),
        ),
    )

    def __init__(self, root: Path, split: str) -> None:
        check_split("pascal_aug", split, {**self.splits, **self.unlabelled_splits})
        if find_spec("scipy") is None:
            raise DataError(
                "pascal_aug reads MATLAB files with scipy, which is not installed.",
                "Install it: pip install 'segctl[datasets]'",
            )
        root = Path(root)
        voc_train, voc_val = _names(list_path(root, "train")), _names(list_path(root, "val"))
        if split in ("val", "test"):
            pairs = voc_pairs(root, split)
        elif split == "trainaug":
            pairs = _without_leak(voc_train, voc_val, [*_sbd_names(root, "train"), *_sbd_names(root, "val")])
        else:
            pairs = [_sbd_pair(name) for name in _sbd_names(root, split.removeprefix("sbd_"))]
        refuse_missing(root, pairs, f"which the lists of {split} name")
        super().__init__(root, split, pairs)
        leaked = {pair.name for pair in pairs}.intersection(voc_val) if split != "val" else ()
        if leaked:
            self.notices += (f"{len(leaked)} samples of {split} belong to VOC's val, on which models are evaluated.",)

    def submission_path(self, index: int) -> str:
        return submission_path(self.split, self.name(index))

    def _mask(self, path: Path) -> np.ndarray:
        if path.suffix != ".mat":
            return super()._mask(path)
        return self._table.to_classes(_read_mat(path), path)


def _without_leak(voc_train: list[str], voc_val: list[str], sbd: list[str]) -> list[Pair]:
    """The field's trainaug, sorted by name: (SBD and VOC's train) minus VOC's val."""
    train = set(voc_train)
    wanted = train.union(sbd).difference(voc_val)
    return [voc_pair(name) if name in train else _sbd_pair(name) for name in sorted(wanted)]


def _sbd_pair(name: str) -> Pair:
    return Pair(name, f"{_SBD}/img/{name}.jpg", f"{_SBD}/cls/{name}.mat")


def _sbd_names(root: Path, part: str) -> list[str]:
    return _names(root / _SBD / f"{part}.txt")


def _names(path: Path) -> list[str]:
    return [name for _, name in read_list(path)]


def _read_mat(path: Path) -> np.ndarray:
    """The field ``GTcls.Segmentation`` of one of SBD's files: (H, W) uint8 class indices.

    Raises:
        DataError: The file is missing, damaged, or has no such field.
    """
    from scipy.io import loadmat

    try:
        segmentation = loadmat(path, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0]
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except Exception as error:  # a damaged file makes the parser fail in any way
        raise DataError(
            f"{path} cannot be read as one of SBD's masks (GTcls.Segmentation): {type(error).__name__}: {error}.",
            "Replace the file or unpack it again.",
        ) from error
    return np.ascontiguousarray(segmentation, np.uint8)
