"""VOC with SBD's annotations: which photographs belong to which split, and whose masks they get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from layouts import BORDERED, sbd, voc

from segctl.errors import DataError
from segctl.plugin import dataset_info
from segctl_datasets.pascal_aug import PascalAug
from segctl_datasets.pascal_voc import PascalVOC


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """SBD's own lists hold both photographs of VOC's val, as the published ones hold many."""
    voc(tmp_path, train=["2007_a", "2008_b"], val=["2007_v", "2009_w"])
    sbd(tmp_path, train=["2008_b", "2007_v", "2010_c"], val=["2009_w", "2011_d"])
    return tmp_path


def names(dataset: PascalAug) -> list[str]:
    return [dataset.name(index) for index in range(len(dataset))]


def test_facts_are_declared_as_published() -> None:
    info = dataset_info(PascalAug)
    assert info.splits == {"trainaug": 10582, "val": 1449, "sbd_train": 8498, "sbd_val": 2857}
    assert (info.train_split, info.eval_split, info.classes) == ("trainaug", "val", dataset_info(PascalVOC).classes)
    assert [archive.file for archive in info.archives] == ["VOCtrainval_11-May-2012.tar", "benchmark.tgz"]


def test_nothing_of_val_is_trained_on(tree: Path) -> None:
    dataset = PascalAug(tree, "trainaug")
    assert names(dataset) == ["2007_a", "2008_b", "2010_c", "2011_d"]
    assert names(PascalAug(tree, "val")) == ["2007_v", "2009_w"]
    assert dataset.notices == ("trainaug has 4 samples here, 10582 are published.",)


def test_the_plain_lists_of_sbd_say_that_they_leak(tree: Path) -> None:
    dataset = PascalAug(tree, "sbd_train")
    assert names(dataset) == ["2008_b", "2007_v", "2010_c"]
    assert names(PascalAug(tree, "sbd_val")) == ["2009_w", "2011_d"]
    assert dataset.notices[-1] == "1 samples of sbd_train belong to VOC's val, on which models are evaluated."


def test_photographs_of_voc_keep_their_borders(tree: Path) -> None:
    dataset = PascalAug(tree, "trainaug")
    masks = {dataset.name(index): dataset[index][1].tolist() for index in range(len(dataset))}
    assert masks["2007_a"] == masks["2008_b"] == [list(row) for row in BORDERED]
    assert masks["2010_c"] == masks["2011_d"] == [[0, 20], [12, 0]]
    assert PascalAug(tree, "sbd_train")[0][1].tolist() == [[0, 20], [12, 0]]  # 2008_b again, as SBD drew it
    assert PascalAug(tree, "val")[0][1].tolist() == [list(row) for row in BORDERED]


def test_real_files_are_read(test_data: Path, tmp_path: Path) -> None:
    """Six of SBD's own files, whose masks are all background."""
    voc(tmp_path, train=["2007_a"], val=["2007_v"])
    (tmp_path / "benchmark_RELEASE").mkdir()
    (tmp_path / "benchmark_RELEASE" / "dataset").symlink_to(test_data / "samples" / "sbd_format_only")
    dataset = PascalAug(tmp_path, "sbd_train")
    assert names(dataset) == ["000001", "000002", "000003", "000004"]
    image, mask = dataset[2]
    assert (image.shape, mask.shape, mask.dtype) == ((375, 375, 3), (375, 375), np.uint8)
    assert not mask.any()
    assert mask.flags.c_contiguous
    assert len(PascalAug(tmp_path, "trainaug")) == 7


def test_what_is_wrong_is_named(tree: Path) -> None:
    with pytest.raises(DataError, match="no split 'train'; it has trainaug, val, sbd_train, sbd_val and test"):
        PascalAug(tree, "train")
    folder = tree / "benchmark_RELEASE" / "dataset"
    damaged = folder / "cls" / "2010_c.mat"
    damaged.write_bytes(damaged.read_bytes()[:200])
    with pytest.raises(DataError, match=r"2010_c\.mat cannot be read as one of SBD's masks"):
        PascalAug(tree, "trainaug")[2]
    sbd(tree, train=["2010_c"], val=["2011_d"], rows=((0, 21), (12, 0)))
    with pytest.raises(DataError, match=r"2010_c\.mat holds the value 21 on 1 of its 4 pixels"):
        PascalAug(tree, "trainaug")[2]
    (folder / "img" / "2011_d.jpg").unlink()
    with pytest.raises(DataError, match=r"img/2011_d\.jpg, which the lists of trainaug name, does not exist"):
        PascalAug(tree, "trainaug")
    (folder / "val.txt").unlink()
    with pytest.raises(DataError, match=r"split list .*dataset/val\.txt does not exist"):
        PascalAug(tree, "trainaug")
