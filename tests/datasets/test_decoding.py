"""PNG files decoded the fast way hold Pillow's values, and what only Pillow can decode is left to it."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from segctl_datasets.decoding import decode_png, decode_rgb
from segctl_datasets.reading import read_image, read_mask

NOISE = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
RGB, GREY = Image.fromarray(NOISE), Image.fromarray(NOISE[..., 0])


def encoded(picture: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, "png", **options)
    return file.getvalue()


@pytest.mark.parametrize("options", [{}, {"transparency": (1, 2, 3)}, {"gamma": 0.5}, {"compress_level": 0}])
def test_rgb_files_hold_pillows_pixels(options: dict[str, object]) -> None:
    pixels = decode_rgb(encoded(RGB, **options))
    assert np.array_equal(pixels, NOISE)
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


def test_grey_and_palette_files_hold_the_stored_value() -> None:
    palette = GREY.copy()
    palette.putpalette([200, 100, 50] * 256)
    for picture in (GREY, palette):
        content = encoded(picture)
        assert np.array_equal(decode_png(content, "mono"), NOISE[..., 0])
        assert decode_rgb(content) is None


@pytest.mark.parametrize("mode", ["1", "LA", "RGBA", "I;16"])
def test_other_files_are_pillows(mode: str) -> None:
    content = encoded(Image.new(mode, (3, 2)))
    assert decode_rgb(content) is None
    assert decode_png(content, "mono") is None


def test_damaged_files_are_pillows() -> None:
    content = encoded(RGB)
    place = content.index(b"IDAT") + 20
    spoilt = content[:place] + bytes([content[place] ^ 8]) + content[place + 1 :]
    for damaged in (spoilt, content[:-40], content[:20], b"", b"GIF89a"):
        assert decode_rgb(damaged) is None


def test_real_files_are_read_as_pillow_reads_them(test_data: Path) -> None:
    files = [*(test_data / "camvid").glob("*/0001TP_00669*.png"), *(test_data / "samples").rglob("*.png")]
    fast = 0
    for path in files:
        with Image.open(path) as picture:
            if picture.mode == "RGB":
                fast += decode_rgb(path.read_bytes()) is not None
                assert np.array_equal(read_image(path), np.asarray(picture)), path
            elif picture.mode in ("L", "P"):
                fast += decode_png(path.read_bytes(), "mono") is not None
                assert np.array_equal(read_mask(path), np.asarray(picture)), path
    assert fast > 5


def test_without_kornia_pillow_does_it_all(test_data: Path, tmp_path: Path) -> None:
    image, mask = (next((test_data / "camvid" / folder).iterdir()) for folder in ("val", "valannot"))
    code = (
        "import sys; sys.modules['kornia_rs'] = None; import numpy as np; from pathlib import Path;"
        "from segctl_datasets.reading import read_image, read_mask;"
        "np.savez(sys.argv[1], image=read_image(Path(sys.argv[2])), mask=read_mask(Path(sys.argv[3])))"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "read.npz", image, mask], check=True)
    with np.load(tmp_path / "read.npz") as read:
        assert np.array_equal(read["image"], np.asarray(Image.open(image)))
        assert np.array_equal(read["mask"], np.asarray(Image.open(mask)))


def test_an_orientation_in_a_text_is_seen(tmp_path: Path) -> None:
    """Pillow finds an orientation in EXIF, in a text of EXIF, and in XMP."""
    xmp = PngImagePlugin.PngInfo()
    xmp.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    exif = Image.Exif()
    exif[0x0112] = 6
    for options in ({"pnginfo": xmp}, {"exif": exif}):
        (tmp_path / "a.png").write_bytes(encoded(RGB, **options))
        assert read_image(tmp_path / "a.png", upright=lambda orientation, size: True).shape == (7, 9, 3)
        assert read_image(tmp_path / "a.png").shape == (9, 7, 3)
