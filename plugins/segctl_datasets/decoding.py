"""The common PNG and JPEG files, decoded faster than Pillow does, through kornia-rs; to the last bit as Pillow does.

PNG (8 bits, RGB, grey or of a palette) by image-rs's `png`: three times as fast, and the first rows alone where they
are all that is wanted. JPEG by libjpeg-turbo, which is Pillow's, too, but without Pillow's copies.
"""

from __future__ import annotations

import functools
import struct
import zlib
from types import ModuleType

import numpy as np

__all__ = ["decode_png", "decode_rgb"]

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_HEADER = struct.Struct(">8sI4sIIBBBBB")  # signature, length, "IHDR", width, height, depth, colour type and three more
_AFTER_HEADER = 33
_MODES = {"rgb": (2,), "mono": (0, 3)}
_MOST_PIXELS = 1 << 26  # beyond it Pillow is to say what it thinks of decompression bombs


def decode_rgb(content: bytes, *, first: tuple[int, tuple[int, int]] | None = None) -> np.ndarray | None:
    """The (H, W, 3) uint8 pixels of a file, or None where Pillow has to look at it: of another kind, or damaged.

    Args:
        content: The whole file.
        first: Only the first rows, as many as the first number says, of a picture whose (height, width) is the second;
            then None, too, where the file has another size, or all of it would have to be decoded.
    """
    if content.startswith(_PNG):
        return decode_png(content, "rgb", first=first)
    return _decode_jpeg(content) if content.startswith(_JPEG) and first is None else None


def decode_png(content: bytes, mode: str, *, first: tuple[int, tuple[int, int]] | None = None) -> np.ndarray | None:
    """As `decode_rgb`, of a PNG file alone; with the mode "mono", (H, W) uint8 grey values or palette indices."""
    kornia = _kornia()
    if kornia is None or len(content) < _AFTER_HEADER:
        return None
    signature, _, kind, width, height, depth, color_type, _, _, interlaced = _HEADER.unpack_from(content)
    if (signature, kind, depth) != (_PNG, b"IHDR", 8) or color_type not in _MODES[mode]:
        return None
    if not 0 < width * height <= _MOST_PIXELS:
        return None
    if first is not None:
        rows, size = first
        if size != (height, width) or interlaced:
            return None
        if rows < height:
            content, height = _shortened(content, rows), rows
    try:
        pixels: np.ndarray = kornia.decode_image_png_u8(content, (height, width), mode)
    except Exception:  # it raises nothing narrower; what is wrong, Pillow will tell
        return None
    return pixels if mode == "rgb" else pixels[..., 0]


@functools.cache
def _kornia() -> ModuleType | None:
    """Imported with the first file, not with a data set: what only reads its facts does without."""
    try:
        from kornia_rs import io
    except ImportError:  # no wheel for this platform: Pillow does everything
        return None
    return io


def _shortened(content: bytes, rows: int) -> bytes:
    """A PNG file that says it has fewer rows. What follows them is then not decoded."""
    header = content[12:20] + struct.pack(">I", rows) + content[24:29]
    return b"".join((content[:12], header, struct.pack(">I", zlib.crc32(header)), memoryview(content)[_AFTER_HEADER:]))


def _decode_jpeg(content: bytes) -> np.ndarray | None:
    kornia = _kornia()
    if kornia is None:
        return None
    decoder = kornia.ImageDecoder()
    try:
        size = decoder.read_header(content)
        pixels: np.ndarray | None = decoder.decode(content) if size.width * size.height <= _MOST_PIXELS else None
    except Exception:  # as above; CMYK, too
        return None
    return pixels
