"""Photographs on their way in: found in files and folders, and read whatever their size, mode and orientation."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from segctl.errors import DataError

__all__ = ["find_photos", "output_names", "read_photo"]

SUFFIXES = frozenset(
    ".avif .bmp .gif .jfif .jp2 .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()  # noqa: SIM905
)
OUTPUTS = ("_mask.png", "_overlay.png")

# What Pillow raises for files that are cut short, damaged or not images at all.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


def find_photos(given: Sequence[Path], out: Path) -> list[Path]:
    """The photographs among files and folders, each once.

    Folders are searched with their sub-folders, in alphabetical order; what is hidden, has no picture's suffix, or is
    a mask or overlay that an earlier prediction left in `out` is passed over.

    Raises:
        DataError: A path does not exist, a file is no picture, or there is no picture at all.
    """
    photos: dict[Path, Path] = {}
    for path in given:
        if path.is_dir():
            found = [file for file in _files(path) if not _is_output(file, out)]
            if not found:
                raise DataError(
                    f"There is no picture in {path}.", f"Pictures are files that end in {', '.join(sorted(SUFFIXES))}."
                )
        elif path.exists():
            found = [path]
        else:
            raise DataError(f"{path} does not exist.", "Give picture files or folders of pictures.")
        for photo in found:
            photos.setdefault(photo.resolve(), photo)
    for photo in photos.values():
        with _opened(photo):
            pass
    return list(photos.values())


def _files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def _is_output(path: Path, out: Path) -> bool:
    return path.name.endswith(OUTPUTS) and path.resolve().is_relative_to(out.resolve())


def output_names(photos: Sequence[Path]) -> list[str]:
    """A name for each photograph's outputs: its stem, with as much of its path as tells it from the others."""
    names = [photo.stem for photo in photos]
    for longer in (_with_suffix, _with_folder, _with_both):
        clashing = _clashing(names)
        names = [
            longer(photo) if name.casefold() in clashing else name for photo, name in zip(photos, names, strict=True)
        ]
    number = 1
    while clashing := _clashing(names):
        number += 1
        for index in range(len(names) - 1, -1, -1):
            if names[index].casefold() in clashing:
                names[index] += f"_{number}"
                break
    return names


def _clashing(names: Sequence[str]) -> set[str]:
    """Names that occur more than once, also on a file system that takes capitals for small letters."""
    return {name for name, count in Counter(name.casefold() for name in names).items() if count > 1}


def _with_suffix(photo: Path) -> str:
    return f"{photo.stem}_{photo.suffix.lstrip('.').lower()}"


def _with_folder(photo: Path) -> str:
    return f"{photo.resolve().parent.name}_{photo.stem}"


def _with_both(photo: Path) -> str:
    return f"{photo.resolve().parent.name}_{_with_suffix(photo)}"


def read_photo(path: Path) -> np.ndarray:
    """A photograph as people see it: upright, in colour.

    Grey and palette pictures become RGB, transparent ones lie on white, 16 bits per channel are scaled to 8, CMYK is
    converted, and of several frames or pages the first is taken.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        DataError: The file is missing, damaged, or no picture.
    """
    with _opened(path) as picture:
        try:
            return _rgb(ImageOps.exif_transpose(picture))
        except _DAMAGED as error:
            raise _unreadable(path, error) from error


def _rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I") or picture.mode == "F":
        grey = Image.fromarray(_eight_bits(np.asarray(picture), picture.mode))
        return np.array(grey.convert("RGB"))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return np.array(picture.convert("RGB"))


def _eight_bits(values: np.ndarray, mode: str) -> np.ndarray:
    """Grey values of 16 or 32 bits, or floating-point ones, as 0 to 255.

    16 bits are taken to use their whole range. 32-bit and floating-point files do not say theirs: it is taken to be
    1, 255 or 65535, whichever is the smallest that holds all values, else the largest value itself.
    """
    if mode.startswith("I;16"):
        top = 65535.0
    else:
        values = np.nan_to_num(np.asarray(values, np.float64), nan=0.0, posinf=0.0, neginf=0.0).clip(0)
        largest = float(values.max(initial=0))
        known = (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)
        top = next((each for each in known if largest <= each), largest)
    return np.round(values * (255.0 / top)).astype(np.uint8)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An open picture; its pixels are not read yet."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None  # the user asked for this very picture: large is not suspicious
    try:
        with _open(path) as picture:
            yield picture
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except UnidentifiedImageError:
        raise DataError(f"{path} is not a picture.", "Give picture files or folders of pictures.") from None
    except _DAMAGED as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, OSError) and error.strerror:
        return DataError(f"{path} cannot be read: {error.strerror}.")
    return DataError(f"{path} cannot be decoded: it is damaged or cut short ({error}).", "Replace the file.")
