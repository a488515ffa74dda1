"""`segctl data check` of a person's own folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import camvid_tree
import numpy as np
import pytest
from check_reports import found, told
from PIL import Image

import segctl
from segctl.data_check import sample


def kinds(root: Path) -> set[tuple[str, str]]:
    return {each for each in found(segctl.check_data("folder", data_root=root)) if each[0] != "notice"}


def test_a_folder_without_faults(six: Path) -> None:
    assert kinds(six) == set()


def remove_mask(root: Path) -> None:
    (root / "masks/p3.png").unlink()


def remove_image(root: Path) -> None:
    (root / "images/p3.png").unlink()


def list_what_is_not_there(root: Path) -> None:
    (root / "train.txt").write_text("p0\np1\nlost\np1\n")
    (root / "val.txt").write_text("p2\n")


def spoil_without_classes(root: Path) -> None:
    """The classes are what the masks hold; one of them cannot be read."""
    (root / "classes.yaml").unlink()
    (root / "masks/p3.png").write_bytes(b"")


def save_mask_as_jpeg(root: Path) -> None:
    Image.open(root / "masks/p3.png").save(root / "masks/p3.jpg", quality=100)
    (root / "masks/p3.png").unlink()


def repeat_over_splits(root: Path) -> None:
    (root / "train.txt").write_text("p0\np1\np2\n")
    (root / "val.txt").write_text("p2\np3\np4\np5\n")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (remove_mask, {("missing-mask", "masks/p3.png")}),
        (remove_image, {("refused-mask", "masks/p3.png")}),
        (
            list_what_is_not_there,
            {
                ("missing-image", "images/lost"),
                ("missing-mask", "masks/lost.png"),
                ("listed-twice", "images/p1.png"),
                ("unused", "masks/p3.png"),
                ("unused", "masks/p4.png"),
                ("unused", "masks/p5.png"),
            },
        ),
        (spoil_without_classes, {("unreadable-mask", "masks/p3.png")}),
        (repeat_over_splits, {("leak", "images/p2.png")}),
    ],
)
def test_a_folder_with_a_fault(six: Path, spoil: Callable[[Path], None], expected: set[tuple[str, str]]) -> None:
    spoil(six)

    assert {each for each in kinds(six) if each[0] != "refused"} == expected


def save(root: Path, picture: Image.Image, name: str = "p1.png", **options: object) -> None:
    (root / "images/p1.png").unlink()
    picture.save(root / "images" / name, **options)


def same_pair_twice(root: Path) -> None:
    for folder in ("images", "masks"):
        shutil.copy(root / folder / "p0.png", root / folder / "p1.png")


def of_size(width: int, height: int) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        save(root, Image.fromarray(camvid_tree.picture(1)).resize((width, height)))
        Image.fromarray(camvid_tree.labels(1) // 6).resize((width, height)).save(root / "masks/p1.png")

    return spoil


def turned_upside_down(root: Path) -> None:
    """Its size does not tell whether the mask is turned, too."""
    exif = Image.Exif()
    exif[0x0112] = 3
    save(root, Image.fromarray(camvid_tree.picture(1)), exif=exif)


def nothing_but_background(root: Path) -> None:
    (root / "classes.yaml").write_text("names: [background, thing]\n")
    Image.new("L", (camvid_tree.WIDTH, camvid_tree.HEIGHT)).save(root / "masks/p1.png")


def no_thing_in_val(root: Path) -> None:
    for name in ("p4", "p5"):
        Image.new("L", (camvid_tree.WIDTH, camvid_tree.HEIGHT)).save(root / "masks" / f"{name}.png")


PICTURE = Image.fromarray(camvid_tree.picture(1))
DEEP = Image.fromarray(camvid_tree.picture(1)[..., 0].astype(np.uint16) * 257)


@pytest.mark.parametrize(
    ("spoil", "kind", "file", "level"),
    [
        (same_pair_twice, "duplicate", "images/p1.png", "warning"),
        (of_size(31, 40), "tiny-image", "images/p1.png", "warning"),
        (of_size(50, 40), "huge-image", "images/p1.png", "note"),
        (lambda root: save(root, PICTURE.convert("L")), "grey", "images/p1.png", "note"),
        (lambda root: save(root, PICTURE.convert("RGBA")), "alpha", "images/p1.png", "note"),
        (lambda root: save(root, PICTURE.convert("CMYK"), "p1.jpg"), "cmyk", "images/p1.jpg", "note"),
        (lambda root: save(root, DEEP), "deep", "images/p1.png", "note"),
        (nothing_but_background, "only-background", "masks/p1.png", "note"),
        (no_thing_in_val, "never-evaluated", "", "note"),
        (turned_upside_down, "unusable", "images/p1.png", "error"),
    ],
)
def test_one_pair_and_what_is_said_of_it(
    six: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], kind: str, file: str, level: str
) -> None:
    monkeypatch.setattr(sample, "HUGE", 1900)  # pixels, instead of 40 millions
    (six / "train.txt").write_text("p0\np1\np2\np3\n")
    (six / "val.txt").write_text("p4\np5\n")
    assert kinds(six) == set()

    spoil(six)

    report = segctl.check_data("folder", data_root=six)
    assert found(report) - {("turned", file)} == {(kind, file)}
    assert {finding.level for finding in report.findings if finding.kind == kind} == {level}


def test_a_mask_in_a_format_that_changes_values(six: Path) -> None:
    save_mask_as_jpeg(six)

    report = segctl.check_data("folder", data_root=six)

    assert ("lossy-mask", "masks/p3.jpg") in found(report)
    ((_, _, what),) = set(told(report, "refused"))
    assert "p3.png" in what
    assert report.count("error") >= 1
