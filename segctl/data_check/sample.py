"""Looks at one sample: as training would get it, and, where that fails, at each of its files for what is wrong."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from segctl.errors import DataError, listing
from segctl.plugin import DatasetInfo

__all__ = ["Seen", "Tally", "examine", "files_of"]

TINY = 32  # pixels; models reduce an image up to 32 times
HUGE = 40_000_000  # pixels in all
_LOSSY = {"JPEG", "MPO"}
_ORIENTATION = 0x0112
# What Pillow raises for files that are cut short, damaged or not images at all, and for those that are far too large.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

Fault = tuple[str, str, str]  # kind, file, what is wrong with it


@dataclass(frozen=True)
class Seen:
    """What is kept of a sample.

    Attributes:
        faults: Kind, file (below the data's root, or the sample's name), and what is wrong, of each.
        image: A digest of the image's size and pixels, however they are stored; None where it could not be read, or is
            of one colour throughout.
        mask: A digest of the mask's content; None where it could not be read.
        size: Width and height of the image.
    """

    faults: tuple[Fault, ...] = ()
    image: bytes | None = None
    mask: bytes | None = None
    size: tuple[int, int] | None = None


@dataclass
class Tally:
    """Sums over samples, all of whole numbers, so that they do not depend on the order.

    Attributes:
        images: Images that were counted; `masks` likewise.
        levels: (3, 256): how often each value of red, green and blue occurs.
        class_pixels: (C,): pixels of each class.
        class_images: (C,): masks in which it occurs.
        ignored: Ignored pixels.
    """

    classes: int
    images: int = 0
    masks: int = 0
    levels: np.ndarray = field(default_factory=lambda: np.zeros((3, 256), np.int64))
    class_pixels: np.ndarray = field(init=False)
    class_images: np.ndarray = field(init=False)
    ignored: int = 0

    def __post_init__(self) -> None:
        self.class_pixels = np.zeros(self.classes, np.int64)
        self.class_images = np.zeros(self.classes, np.int64)

    def add(self, other: Tally) -> None:
        self.images += other.images
        self.masks += other.masks
        self.levels += other.levels
        self.class_pixels += other.class_pixels
        self.class_images += other.class_images
        self.ignored += other.ignored


def files_of(dataset: Any, index: int) -> tuple[str, str] | None:
    """The image's and the mask's path below the data's root; None where the data set does not say.

    The mask's is empty where labels are not public.
    """
    if not hasattr(dataset, "files") or not hasattr(dataset, "root"):
        return None
    paths = [*map(str, dataset.files(index)), ""]
    return paths[0], paths[1]


def examine(dataset: Any, info: DatasetInfo, index: int, tally: Tally, *, labelled: bool) -> Seen:
    """Looks at a sample and adds it to `tally`; whatever is wrong with it becomes a fault, not an exception.

    Args:
        dataset: A split.
        info: Its facts.
        index: The sample's.
        tally: Takes its pixels.
        labelled: Whether its mask says anything.
    """
    files = files_of(dataset, index)
    root = str(getattr(dataset, "root", ""))
    name = (files[1] or files[0]) if files else str(dataset.name(index))
    try:
        image, mask = dataset[index]
        faults = list(_contract(image, mask, info, name))
    except DataError as error:
        image, mask, faults = _diagnose(dataset, index, files, root, error)
    except MemoryError:
        raise
    except Exception as error:  # a stranger's code
        image, mask, faults = None, None, [("contract", name, f"{type(error).__name__}: {error}")]
    if any(kind == "contract" for kind, _, _ in faults):
        return Seen(tuple(faults))
    faults += _headers(root, files) if files else []
    seen_image, size = None, None
    if image is not None:
        size = (image.shape[1], image.shape[0])
        levels = _levels(image)
        tally.images += 1
        tally.levels += levels
        blank = bool((levels > 0).sum(axis=1).max() == 1)
        faults += _about_image(size, blank, files[0] if files else name)
        seen_image = None if blank else _digest(image)
    if mask is None or not labelled:
        return Seen(tuple(faults), seen_image, None, size)
    faults += _about_mask(mask, info, name, tally)
    return Seen(tuple(faults), seen_image, _digest(mask), size)


def _contract(image: Any, mask: Any, info: DatasetInfo, name: str) -> Iterator[Fault]:
    """What any data set must keep to; one that reads files through segctl's own code does."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        yield "contract", name, f"the image is {_described(image)}, not an array of shape (H, W, 3) of uint8"
        return
    if not isinstance(mask, np.ndarray) or not np.issubdtype(mask.dtype, np.integer) or mask.ndim != 2:
        yield "contract", name, f"the mask is {_described(mask)}, not an array of shape (H, W) of integers"
        return
    if 0 in image.shape or 0 in mask.shape:
        yield "contract", name, "it has no pixels"
        return
    if image.shape[:2] != mask.shape:
        yield "size-mismatch", name, _sizes_differ(mask.shape, image.shape)
    values = np.unique(mask) if int(mask.min()) < 0 or int(mask.max()) >= len(info.classes) else np.empty(0, int)
    wrong = values[((values < 0) | (values >= len(info.classes))) & (values != info.ignore_index)]
    if wrong.size:
        held = listing([*(str(value) for value in wrong[:8]), *(["others"] if wrong.size > 8 else [])])
        pixels = int(np.isin(mask, wrong).sum())
        classes = f"classes are 0 to {len(info.classes) - 1}, ignored is {info.ignore_index}"
        yield "mask-value", name, f"holds {held} on {pixels} of its {mask.size} pixels; {classes}"


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"of shape {tuple(shape)} and type {value.dtype}"


def _sizes_differ(mask: tuple[int, ...], image: tuple[int, ...]) -> str:
    return f"is {mask[1]} x {mask[0]} pixels, its image {image[1]} x {image[0]}"


def _diagnose(
    dataset: Any, index: int, files: tuple[str, str] | None, root: str, error: DataError
) -> tuple[np.ndarray | None, np.ndarray | None, list[Fault]]:
    """Why a sample cannot be had, and what of it could be read: image, mask, faults."""
    if files is None:
        return None, None, [("unusable", str(dataset.name(index)), _said(error, root, ""))]
    image_path, mask_path = (os.path.join(root, file) for file in files)
    faults: list[Fault] = []
    image, why = _decoded(image_path)
    if not os.path.lexists(image_path):
        faults.append(("missing-image", files[0], "does not exist"))
    elif image is None:
        faults.append(("unreadable-image", files[0], why))
    mask: np.ndarray | None = None
    if files[1] and not os.path.lexists(mask_path):
        faults.append(("missing-mask", files[1], "does not exist"))
    elif files[1] and hasattr(dataset, "mask"):
        try:
            mask = dataset.mask(index)
        except DataError as wrong:
            kind = _kind_of_mask_fault(mask_path)
            faults.append((kind, files[1], _said(wrong, root, files[1], hint=kind != "unreadable-mask")))
    if not faults and image is not None and mask is not None and image.shape[:2] != mask.shape:
        faults.append(("size-mismatch", files[1], _sizes_differ(mask.shape, image.shape)))
    if not faults:
        faults.append(("unusable", files[0], _said(error, root, files[0], hint=True)))
    return image, mask, faults


def _kind_of_mask_fault(path: str) -> str:
    """Whether it is the file or what it holds; of a file that is no picture (.mat) only its reader knows."""
    if _decoded(path)[0] is not None:
        return "mask-value"
    return "unreadable-mask" if os.path.splitext(path)[1].lower() in Image.registered_extensions() else "unusable"


def _decoded(path: str) -> tuple[np.ndarray | None, str]:
    """The pixels of a picture as RGB, or why there are none."""
    try:
        with Image.open(path) as file:
            return np.asarray(file if file.mode == "RGB" else file.convert("RGB")), ""
    except FileNotFoundError:
        return None, "does not exist"
    except UnidentifiedImageError:
        size = os.path.getsize(path) if os.path.isfile(path) else None
        return None, "is empty" if size == 0 else "is a folder" if size is None else "is no picture, or damaged"
    except _DAMAGED as error:
        return None, f"cannot be decoded: {getattr(error, 'strerror', None) or error}"


def _said(error: DataError, root: str, file: str, *, hint: bool = False) -> str:
    """An error's own words, without the path that stands beside them."""
    message = f"{error.message} {error.hint}".strip() if hint else error.message
    message = message.replace(f"{root}{os.sep}", "")
    return message.removeprefix(f"{file} ").rstrip(".") if file else message.rstrip(".")


def _headers(root: str, files: tuple[str, str]) -> list[Fault]:
    """What the files' headers tell, without decoding a pixel."""
    faults: list[Fault] = []
    image, mask = files
    try:
        with Image.open(os.path.join(root, image)) as file:
            faults += [(kind, image, what) for kind, what in _of_image_header(file)]
    except _DAMAGED:
        pass  # said already
    if not mask:
        return faults
    try:
        with Image.open(os.path.join(root, mask)) as file:
            if file.format in _LOSSY or (file.format == "WEBP" and not _lossless_webp(os.path.join(root, mask))):
                faults.append(("lossy-mask", mask, f"is stored as {file.format}"))
    except _DAMAGED:
        pass
    return faults


def _of_image_header(file: Image.Image) -> Iterator[tuple[str, str]]:
    if file.mode.startswith("I") or file.mode == "F":
        yield "deep", f"is stored as {file.mode}"
    elif file.mode in ("1", "L", "LA"):
        yield "grey", "is greyscale"
    elif file.mode in ("CMYK", "YCCK", "LAB", "HSV"):
        yield "cmyk", f"is stored as {file.mode}"
    if file.mode in ("LA", "RGBA", "PA") or "transparency" in file.info:
        yield "alpha", "has an alpha channel" if file.mode in ("LA", "RGBA", "PA") else "has a transparent colour"
    # Asking a PNG without EXIF for its orientation would decode it.
    turn = file.getexif().get(_ORIENTATION, 1) if file.format != "PNG" or "exif" in file.info else 1
    if turn in range(2, 9):
        yield "turned", f"has EXIF orientation {turn}, stored as {file.width} x {file.height}"


def _lossless_webp(path: str) -> bool:
    with open(path, "rb") as file:
        return b"VP8L" in file.read(4096)


def _levels(image: np.ndarray) -> np.ndarray:
    """(3, 256): the histogram of each channel."""
    return np.asarray(Image.fromarray(image).histogram(), np.int64).reshape(3, 256)


def _digest(array: np.ndarray) -> bytes:
    found = hashlib.blake2b(repr(array.shape).encode(), digest_size=16)
    found.update(np.ascontiguousarray(array).data)
    return found.digest()


def _about_image(size: tuple[int, int], blank: bool, file: str) -> Iterator[Fault]:
    if blank:
        yield "blank-image", file, "is of one colour throughout"
    if min(size) < TINY:
        yield "tiny-image", file, f"is {size[0]} x {size[1]} pixels"
    if size[0] * size[1] > HUGE:
        yield "huge-image", file, f"is {size[0]} x {size[1]} pixels"


def _about_mask(mask: np.ndarray, info: DatasetInfo, file: str, tally: Tally) -> Iterator[Fault]:
    counts = _counts(mask, len(info.classes))
    ignored = int((mask == info.ignore_index).sum()) if counts.sum() < mask.size else 0
    tally.masks += 1
    tally.class_pixels += counts
    tally.class_images += counts > 0
    tally.ignored += ignored
    if ignored == mask.size:
        yield "all-ignored", file, "holds nothing but the ignored value"
    elif info.classes[0].lower() == "background" and counts[0] and not counts[1:].any():
        yield "only-background", file, "holds nothing but background"


def _counts(mask: np.ndarray, classes: int) -> np.ndarray:
    """(C,): pixels of each class."""
    if mask.dtype == np.uint8 and classes <= 256:
        return np.asarray(Image.fromarray(mask).histogram()[:classes], np.int64)
    inside = mask[(mask >= 0) & (mask < classes)].astype(np.int64)
    return np.bincount(inside, minlength=classes)
