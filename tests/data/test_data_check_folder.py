"""`segctl data check` of a person's own folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from check_reports import found, told
from PIL import Image

import segctl


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


def test_a_mask_in_a_format_that_changes_values(six: Path) -> None:
    save_mask_as_jpeg(six)

    report = segctl.check_data("folder", data_root=six)

    assert ("lossy-mask", "masks/p3.jpg") in found(report)
    ((_, _, what),) = set(told(report, "refused"))
    assert "p3.png" in what
    assert report.count("error") >= 1
