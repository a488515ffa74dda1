"""`segctl data show`: the picture is read back, pixel by pixel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segctl
from segctl.cli.app import main
from segctl.data_show import ContactSheet
from segctl.errors import ConfigError, DataError
from segctl_jobs.contact_sheet import CELL, GAP, MARGIN

GREY, ROAD, CAR = (100, 100, 100), (128, 64, 128), (0, 0, 142)
# 0.55 of the class's colour over 0.45 of the photograph's.
ROAD_ON_GREY, CAR_ON_GREY = (115, 80, 115), (45, 45, 123)
HEIGHT = CELL * 3 // 4  # of a picture of 40 x 30


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Three grey pictures of 40 x 30; their left half is road, below right is car, above right is ignored."""
    root = tmp_path / "my"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    mask = np.zeros((30, 40), np.uint8)
    mask[:15, 20:], mask[15:, 20:] = 255, 1
    for name in ("a", "b", "c"):
        Image.new("RGB", (40, 30), GREY).save(root / "images" / f"{name}.png")
        Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    (root / "classes.yaml").write_text('names: [road, car]\ncolors: ["#804080", "#00008e"]\n')
    for split, names in (("train", "a\nb\n"), ("val", "c\n")):
        (root / f"{split}.txt").write_text(names)
    return root


def show(own: Path, *samples: str, **arguments: object) -> tuple[ContactSheet, np.ndarray]:
    flags = {"data_root": str(own), **arguments.pop("flags", {})}  # type: ignore[dict-item]
    sheet = segctl.show_data("folder", samples, out=own / "sheet.png", flags=flags, **arguments)
    with Image.open(sheet.file) as file:
        return sheet, np.asarray(file.convert("RGB")).astype(int)


def where(pixels: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return np.abs(pixels - color).max(axis=2) <= 1


def test_classes_are_tinted_and_ignored_pixels_hatched(own: Path) -> None:
    sheet, pixels = show(own, "c", split="val")

    assert (sheet.split, sheet.samples) == ("val", ("c",))
    assert sheet.shares == {"road": 0.5, "car": 0.25}
    assert sheet.ignored == 0.25
    top = int(np.flatnonzero(where(pixels, GREY)[:, MARGIN])[0])
    photo = pixels[top : top + HEIGHT, MARGIN : MARGIN + CELL]
    assert (photo == GREY).all()
    mask = pixels[top : top + HEIGHT, MARGIN + CELL + GAP : MARGIN + 2 * CELL + GAP]
    border = 2  # between the classes there is a thin line
    left, right = mask[:, : CELL // 2 - border], mask[:, CELL // 2 + border :]
    assert where(left, ROAD_ON_GREY).all()
    assert where(right[HEIGHT // 2 + border :], CAR_ON_GREY).all()
    ignored = right[: HEIGHT // 2 - border]
    light = (ignored > 200).all(axis=2)
    assert 0.4 < light.mean() < 0.6
    assert (np.diff(light.astype(int), axis=1) != 0).sum() > 100  # stripes
    assert (ignored.max(axis=2) - ignored.min(axis=2) <= 1).all()  # of no class's colour


def test_the_legend_has_the_classes_and_what_is_ignored(own: Path) -> None:
    def legend(pixels: np.ndarray) -> tuple[np.ndarray, int]:
        """What is below the pictures, and how far it reaches to the right."""
        below = pixels[int(np.flatnonzero(where(pixels, ROAD_ON_GREY).any(axis=1))[-1]) + 20 :]
        return below, int(np.flatnonzero((below != below[-1, -1]).any(axis=(0, 2)))[-1])

    below, end = legend(show(own, "c", split="val")[1])
    assert min(int(where(below, color).sum()) for color in (ROAD, CAR)) > 200

    Image.new("L", (40, 30)).save(own / "masks/c.png")  # road alone: no car, nothing ignored
    below, end_of_road = legend(show(own, "c", split="val")[1])
    assert int(where(below, ROAD).sum()) > 200
    assert not where(below, CAR).any()

    Image.fromarray(np.repeat(np.uint8([[0, 255]]), 20, axis=1).repeat(30, axis=0)).save(own / "masks/c.png")
    below, end_of_ignored = legend(show(own, "c", split="val")[1])
    assert end_of_road < end_of_ignored < end


def test_augmentation_is_shown_as_training_gets_it(own: Path) -> None:
    """Mirrored always and otherwise left alone: the road is on the right then."""
    sheet, pixels = show(
        own, "b", draws=1, flags={"augment.flip": 1.0, "augment.crop": None}, sets=["augment.scale=[1.0, 1.0]"]
    )

    assert sheet.samples == ("b",)
    road = np.flatnonzero(where(pixels, ROAD_ON_GREY).sum(axis=0) > HEIGHT // 2)
    stored, augmented = np.split(road, np.flatnonzero(np.diff(road) > CELL // 2) + 1)
    mask_left = MARGIN + CELL + GAP
    assert mask_left <= stored[0] <= stored[-1] < mask_left + CELL // 2
    assert pixels.shape[1] - MARGIN - CELL // 2 <= augmented[0] <= augmented[-1] < pixels.shape[1] - MARGIN
    assert min(len(stored), len(augmented)) > CELL // 2 - 4


def test_samples_are_drawn_with_the_seed(own: Path) -> None:
    drawn = {seed: show(own, count=1, draws=0, flags={"seed": seed})[0].samples for seed in range(6)}

    assert set(drawn.values()) == {("a",), ("b",)}
    assert drawn == {seed: show(own, count=1, draws=0, flags={"seed": seed})[0].samples for seed in range(6)}
    assert show(own, count=10, draws=0)[0].samples == ("a", "b")


def test_the_command(own: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own)
    common = ["data", "show", "folder", "--data-root", str(own)]

    assert main([*common, "--split", "val", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["file"] == "folder-val.png"
    assert document["samples"] == ["c"]
    assert (own / "folder-val.png").exists()
    assert main([*common, "-o", "two.png", "--count", "2", "--set", "augment.crop=24", "--recipe", "quickstart"]) == 0
    assert capfd.readouterr().out == "two.png\n"
    assert main([*common, "-o", "two.png", "--seed", "2"]) == 0  # its own file is replaced


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bb"], "train has no sample 'bb'. Did you mean 'b'?"),
        (["--split", "vall"], "has no split 'vall'"),
        (
            ["-o", "images/a.png"],
            "images/a.png is there already, and not a sheet of segctl's. Name another file with -o.",
        ),
        (["-o", "sheet.jpg"], "sheet.jpg: a sheet is a PNG file. Call it sheet.png."),
        (["--set", "optimizer.lr=1"], "optimizer.lr: what is shown does not depend on it."),
        (["--set", "augment.crp=1"], "Did you mean 'augment.crop'?"),
        (["--model.width", "3"], "model.width: what is shown does not depend on it."),
    ],
)
def test_what_cannot_be_shown(
    own: Path,
    arguments: list[str],
    message: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(own)

    assert main(["data", "show", "folder", "--data-root", str(own), *arguments]) == 1

    said = capfd.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not (own / "folder-train.png").exists()


def test_a_faulty_sample_is_told(own: Path) -> None:
    Image.new("L", (3, 3)).save(own / "masks/c.png")
    with pytest.raises(DataError, match=r"masks/c\.png is 3 x 3 pixels"):
        show(own, "c", split="val")
    with pytest.raises(ConfigError, match="count: 0"):
        show(own, count=0)
