"""Decoding: a file becomes an (H, W, 3) uint8 image or an (H, W) mask of stored values, or a `DataError` that names it.

Masks are read as stored: palette masks give the index, not the colour. What the values mean is `labels.py`'s business.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from segctl.errors import DataError

from .decoding import decode_png, decode_rgb

__all__ = ["Upright", "read_image", "read_mask", "read_rows"]

Upright = Callable[[int, tuple[int, int]], bool]

# What Pillow raises for files that are cut short, damaged or not images at all.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
_EXIF_ORIENTATION = 0x0112
# Where an orientation may be: in chunks of a PNG file, in the first segments of a JPEG one.
_PNG_METADATA = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
_JPEG_METADATA = (b"Exif", b"http://ns.adobe.com/xap")


def read_image(path: Path, *, upright: Upright | None = None) -> np.ndarray:
    """An image as contiguous, writable RGB, (H, W, 3) uint8.

    Grey images are repeated to three channels, 16-bit ones keep their high byte, CMYK is converted, transparency is
    dropped.

    Args:
        path: The file.
        upright: Asked with the EXIF orientation (2 to 8) and the stored (height, width) of a picture that is not
            upright, whether to turn it. By default pixels stay as they are stored, as the masks of published data
            sets lie on them.

    Raises:
        DataError: The file is missing, unreadable, damaged, or holds floating-point pixels.
    """
    try:
        content = path.read_bytes()
        if not (upright and _may_be_turned(content)):
            pixels = decode_rgb(content)
            if pixels is not None:
                return pixels
        with _open(path, content) as file:
            picture = ImageOps.exif_transpose(file) if upright and _turned(file, upright) else file
            if picture.mode.startswith("I"):
                return _grey16(path, np.asarray(picture))
            if picture.mode == "F":
                raise DataError(f"{path} holds floating-point pixels.", "Convert it to 8 or 16 bits per channel.")
            return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))
    except _DAMAGED as error:
        raise _unreadable(path, error) from error


def read_rows(path: Path, rows: int, size: tuple[int, int], *, upright: Upright | None = None) -> np.ndarray | None:
    """The first rows of an image, as `read_image` gives them, where that is quicker than all of it: of a PNG file.

    Returns:
        (rows, W, 3) uint8; None when all of it must be read, or its (height, width) is not `size`.

    Raises:
        DataError: The file is missing or unreadable.
    """
    if path.suffix.lower() != ".png":
        return None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    return None if upright and _may_be_turned(content) else decode_rgb(content, first=(rows, size))


def read_mask(path: Path, *, as_colors: bool = False) -> np.ndarray:
    """A mask's values as stored: (H, W) uint8, or (H, W, 3) uint8 colours when the file is RGB.

    Grey masks give their grey value, palette masks the palette index, bilevel masks 0 and 1. An RGB file whose
    channels are equal throughout counts as grey, unless `as_colors` is set.

    Raises:
        DataError: The file is missing, unreadable, damaged, partly transparent, or has values beyond 255.
    """
    try:
        content = path.read_bytes()
        fast = decode_png(content, "mono")
        if fast is not None:
            return fast
        with _open(path, content) as file:
            values = _mask_values(path, file, as_colors)
    except _DAMAGED as error:
        raise _unreadable(path, error) from error
    if values.dtype != np.uint8:
        beyond = values[(values < 0) | (values > 255)]
        if beyond.size:
            raise DataError(
                f"{path} holds the value {beyond[0]}; a mask's values must lie between 0 and 255.",
                "Save the masks as 8-bit PNG files.",
            )
        values = values.astype(np.uint8)
    return values


def _may_be_turned(content: bytes) -> bool:
    if content.startswith(b"\x89PNG"):
        return any(chunk in content for chunk in _PNG_METADATA)
    return any(word in content for word in _JPEG_METADATA)


def _turned(file: Image.Image, upright: Upright) -> bool:
    orientation = file.getexif().get(_EXIF_ORIENTATION, 1)
    return orientation in range(2, 9) and upright(orientation, (file.height, file.width))


def _open(path: Path, content: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content))
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} is too large to be decoded: {error}", "Cut it into tiles.") from error


def _mask_values(path: Path, file: Image.Image, as_colors: bool) -> np.ndarray:
    if file.mode in ("P", "L") or file.mode.startswith("I"):
        return np.array(file)
    if file.mode == "1":
        return np.array(file).astype(np.uint8)
    if file.mode in ("RGB", "RGBA", "LA", "PA"):
        channels = np.array(file)
        if file.mode != "RGB":
            if channels[..., -1].min() < 255:
                raise DataError(
                    f"{path} is partly transparent, which says no class.", "Save the masks without transparency."
                )
            channels = channels[..., :-1]
        grey = channels[..., 0]
        is_grey = all(np.array_equal(grey, channels[..., k]) for k in range(1, channels.shape[2]))
        if is_grey and not (as_colors and channels.shape[2] == 3):
            return np.ascontiguousarray(grey)
        return np.ascontiguousarray(channels)
    raise DataError(f"{path} is stored as {file.mode}, which cannot be a mask.", "Save the masks as 8-bit PNG files.")


def _grey16(path: Path, values: np.ndarray) -> np.ndarray:
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise DataError(f"{path} has more than 16 bits per channel.", "Convert it to 8 or 16 bits per channel.")
    return np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2)


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path} does not exist.")
    if isinstance(error, PermissionError | IsADirectoryError):
        return DataError(f"{path} cannot be read: {error.strerror}.")
    reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"  # that one only repeats the path
    return DataError(
        f"{path} cannot be decoded: it is damaged, cut short or no image at all{reason}.",
        "Replace the file or fetch it again.",
    )
