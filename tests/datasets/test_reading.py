"""Decoding: every mode of a photograph becomes RGB, masks give what is stored, and bad files are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segctl.errors import DataError
from segctl_datasets.labels import ColorTable, ValueTable
from segctl_datasets.reading import read_image, read_mask


def save(path: Path, picture: Image.Image, **options) -> Path:
    picture.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("mode", "pixel", "suffix", "rgb"),
    [
        ("RGB", (10, 20, 30), "png", (10, 20, 30)),
        ("L", 77, "png", (77, 77, 77)),
        ("1", 1, "png", (255, 255, 255)),
        ("LA", (50, 0), "png", (50, 50, 50)),
        ("RGBA", (10, 20, 30, 0), "png", (10, 20, 30)),  # transparency is dropped, colours stay
        ("CMYK", (0, 0, 0, 0), "tif", (255, 255, 255)),
        ("CMYK", (255, 0, 0, 0), "tif", (0, 255, 255)),
        ("I;16", 0xABCD, "png", (0xAB, 0xAB, 0xAB)),
        ("I;16", 0xABCD, "tif", (0xAB, 0xAB, 0xAB)),
        ("I", 0x1234, "tif", (0x12, 0x12, 0x12)),
    ],
)
def test_images_of_any_mode_become_rgb(tmp_path: Path, mode: str, pixel, suffix: str, rgb: tuple[int, ...]) -> None:
    image = read_image(save(tmp_path / f"a.{suffix}", Image.new(mode, (3, 2), pixel)))
    assert (image.shape, image.dtype) == ((2, 3, 3), np.uint8)
    assert image.flags.c_contiguous
    assert image.flags.writeable
    assert (image == np.array(rgb)).all()


def test_palette_images_become_their_colours(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 2), 1)
    picture.putpalette([0, 0, 0, 9, 8, 7])
    assert (read_image(save(tmp_path / "a.png", picture)) == (9, 8, 7)).all()


def test_inverted_cmyk_of_adobe_jpeg_is_the_right_way_round(tmp_path: Path) -> None:
    picture = Image.new("CMYK", (8, 8), (0, 0, 0, 0))  # no ink: white
    assert read_image(save(tmp_path / "a.jpg", picture)).min() > 250


def half_red(width: int = 4, height: int = 2) -> Image.Image:
    """Left half red, right half black: stored so that its orientation can be seen."""
    picture = Image.new("RGB", (width, height))
    picture.paste((255, 0, 0), (0, 0, width // 2, height))
    return picture


def test_exif_orientation_is_followed_only_on_request(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise: the left half comes to the top
    path = save(tmp_path / "a.png", half_red(), exif=exif)
    assert read_image(path).shape == (2, 4, 3)
    asked = []
    turned = read_image(path, upright=lambda orientation, size: asked.append((orientation, size)) or True)
    assert asked == [(6, (2, 4))]
    assert turned.shape == (4, 2, 3)
    assert (turned[:2] == (255, 0, 0)).all()
    assert (turned[2:] == 0).all()
    assert read_image(path, upright=lambda orientation, size: False).shape == (2, 4, 3)


def test_masks_give_the_palette_index_not_the_colour(tmp_path: Path) -> None:
    mask = Image.new("P", (3, 2), 15)
    mask.putpalette([200] * 768)
    assert (read_mask(save(tmp_path / "a.png", mask)) == 15).all()


@pytest.mark.parametrize(
    ("mode", "pixel", "suffix", "value"),
    [
        ("L", 7, "png", 7),
        ("L", 255, "bmp", 255),
        ("1", 1, "png", 1),
        ("I;16", 200, "png", 200),
        ("RGB", (6, 6, 6), "png", 6),  # grey saved as colour by a drawing program
        ("RGBA", (6, 6, 6, 255), "png", 6),
        ("LA", (4, 255), "png", 4),
    ],
)
def test_masks_of_one_value_a_pixel(tmp_path: Path, mode: str, pixel, suffix: str, value: int) -> None:
    mask = read_mask(save(tmp_path / f"m.{suffix}", Image.new(mode, (3, 2), pixel)))
    assert (mask.shape, mask.dtype) == ((2, 3), np.uint8)
    assert mask.flags.c_contiguous
    assert mask.flags.writeable
    assert (mask == value).all()


def test_rgb_masks_give_their_colours(tmp_path: Path) -> None:
    assert read_mask(save(tmp_path / "m.png", half_red())).shape == (2, 4, 3)
    grey = save(tmp_path / "g.png", Image.new("RGB", (2, 2), (6, 6, 6)))
    assert read_mask(grey, as_colors=True).shape == (2, 2, 3)


@pytest.mark.parametrize(
    ("picture", "suffix", "message"),
    [
        (Image.new("RGBA", (2, 2), (1, 1, 1, 0)), "png", "partly transparent"),
        (Image.new("I;16", (2, 2), 300), "png", "holds the value 300"),
        (Image.new("CMYK", (2, 2)), "tif", "stored as CMYK"),
    ],
)
def test_masks_that_say_no_class(tmp_path: Path, picture: Image.Image, suffix: str, message: str) -> None:
    path = save(tmp_path / f"mask.{suffix}", picture)
    with pytest.raises(DataError, match=message) as raised:
        read_mask(path)
    assert str(path) in raised.value.message
    assert raised.value.hint


def test_floating_point_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="floating-point"):
        read_image(save(tmp_path / "a.tif", Image.new("F", (2, 2), 0.5)))


def damaged_files(folder: Path) -> list[Path]:
    rng = np.random.Generator(np.random.PCG64(1))
    picture = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    files = []
    for suffix in ("png", "jpg", "bmp", "tif", "gif"):
        whole = save(folder / f"whole.{suffix}", picture).read_bytes()
        for part in (0.02, 0.5):
            files.append(folder / f"cut{part}.{suffix}")
            files[-1].write_bytes(whole[: int(len(whole) * part)])
    changed = bytearray((folder / "whole.png").read_bytes())
    changed[len(changed) // 2] ^= 0xFF
    for name, content in {"changed.png": changed, "empty.png": b"", "text.jpg": b"hello"}.items():
        files.append(folder / name)
        files[-1].write_bytes(content)
    return files


def test_damaged_files_are_named(tmp_path: Path) -> None:
    for path in damaged_files(tmp_path):
        for read in (read_image, read_mask):
            with pytest.raises(DataError, match="cannot be decoded") as raised:
                read(path)
            assert str(path) in raised.value.message


def test_files_that_are_not_there_or_no_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png does not exist"):
        read_image(tmp_path / "none.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match=r"folder\.png cannot be read: Is a directory"):
        read_mask(tmp_path / "folder.png")


def test_stored_values_become_classes() -> None:
    table = ValueTable({7: 0, 8: 1, 0: 2}, ignored=[9, 255])
    stored = np.array([[7, 8, 0], [9, 255, 7]], np.uint8)
    assert table.to_classes(stored, Path("m.png")).tolist() == [[0, 1, 2], [255, 255, 0]]


def test_undeclared_values_are_named_with_the_file() -> None:
    table = ValueTable.of_labels(range(3), ignored=[255])
    mask = np.array([[0, 1, 2, 255], [3, 3, 77, 0]], np.uint8)
    with pytest.raises(DataError) as raised:
        table.to_classes(mask, Path("masks/a.png"))
    assert raised.value.message == (
        "masks/a.png holds the values 3 and 77 on 3 of its 8 pixels, which the data set does not declare."
    )
    assert raised.value.hint == "Declared are 0 to 2 and 255."


def test_many_undeclared_values_are_cut_short() -> None:
    with pytest.raises(DataError, match=r"2, 3, 4, 5, 6, 7, 8, 9 and others on 254 of its 256"):
        ValueTable({0: 0, 1: 1}).to_classes(np.arange(256, dtype=np.uint8).reshape(16, 16), Path("m.png"))


def test_colours_become_classes() -> None:
    table = ColorTable([(0, 0, 0), (255, 0, 0), (0, 0, 255)], ignored=[(255, 255, 255)])
    row = np.array([[[255, 0, 0], [0, 0, 0], [255, 255, 255], [0, 0, 255]]], np.uint8)
    assert table.to_classes(row, Path("m.png")).tolist() == [[1, 0, 255, 2]]
    row[0, 1] = (1, 2, 3)
    with pytest.raises(DataError, match=r"m\.png holds the colour #010203 on 1 of its 4 pixels") as raised:
        table.to_classes(row, Path("m.png"))
    assert "#000000, #0000ff, #ff0000 and #ffffff" in raised.value.hint
