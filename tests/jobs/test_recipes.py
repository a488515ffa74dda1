"""Every shipped recipe passes the check before a submission, on a little tree of its data set's official layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import segctl
from segctl.config.load import resolve
from segctl.config.shipped import recipes

# What the folder does not name is another's: recipes of a data set begin with the data set's name.
PUBLISHED = {name for name in recipes() if name.startswith(("cityscapes_", "ade20k_", "voc_"))}
SIZE = (96, 64)


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, (90, 120, 60)).save(path)


def mask(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", SIZE, value).save(path)


def cityscapes(root: Path) -> None:
    for split, city in (("train", "bonn"), ("val", "munster")):
        for number in range(64):
            frame = f"{split}/{city}/{city}_{number:06d}_000019"
            picture(root / f"leftImg8bit/{frame}_leftImg8bit.png")
            mask(root / f"gtFine/{frame}_gtFine_labelIds.png", 7)


def ade20k(root: Path) -> None:
    for split in ("training", "validation"):
        for number in range(20):
            picture(root / f"ADEChallengeData2016/images/{split}/ADE_{number:08d}.jpg")
            mask(root / f"ADEChallengeData2016/annotations/{split}/ADE_{number:08d}.png", 3)


def voc(root: Path) -> None:
    folder = root / "VOCdevkit/VOC2012"
    lists = folder / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for split in ("train", "val"):
        names = [f"2007_{split}{number}" for number in range(20)]
        (lists / f"{split}.txt").write_text("\n".join(names))
        for name in names:
            picture(folder / f"JPEGImages/{name}.jpg")
            mask(folder / f"SegmentationClass/{name}.png", 15)


TREES: dict[str, Callable[[Path], None]] = {"cityscapes": cityscapes, "ade20k": ade20k, "pascal_voc": voc}


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for name, build in TREES.items():
        build(root / name)
    return root


def test_every_model_has_a_recipe() -> None:
    models = {resolve(name, {}, ()).model.name for name in recipes()}
    from segctl.registry import discover

    ours = {entry.name for entry in discover("models") if entry.distribution == "segctl"}
    assert ours - models == {"psp"}  # another name of pspnet


def test_every_recipe_of_a_published_data_set_says_what_it_aims_at() -> None:
    for name in PUBLISHED:
        comment = " ".join(line.strip("# ") for line in recipes()[name].read_text().splitlines() if line[0] == "#")
        assert "mIoU" in comment, name


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_it_passes_the_check_before_a_submission(name: str, data_root: Path) -> None:
    flags: dict[str, object] = {"data_root": str(data_root)}
    if "pretrained" in resolve(name, {}, ()).model.options:
        flags["model.pretrained"] = False  # no test downloads anything
    submitted = segctl.train(name, flags=flags, dry_run=True)
    assert submitted.run is None
    assert submitted.plan.world_size == 1
