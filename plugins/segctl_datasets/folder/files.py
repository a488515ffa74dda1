"""Which images and masks lie in a person's folder, and which belong together."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from segctl.errors import DataError, listing
from segctl.plugin import tolerates_faults

from ..pairs import Pair

__all__ = ["Masks", "images_in"]

_LOSSLESS = (".png", ".bmp", ".gif", ".pgm", ".tif", ".tiff")
_LOSSY = (".jpg", ".jpeg", ".webp")
_IMAGES = (*_LOSSLESS, *_LOSSY, ".ppm")


def images_in(root: Path) -> dict[str, str]:
    """Name of each image -> its path below ``images/``, sorted. A name is the path without its extension.

    Raises:
        DataError: There are none, or two have one name.
    """
    images = _by_name(root / "images", _IMAGES)
    if not images:
        found = sorted({Path(name).suffix for _, _, files in os.walk(root / "images") for name in files} - {""})
        beside = f", but files ending in {listing(found[:6])}" if found else ""
        raise DataError(f"{root / 'images'} holds no images{beside}.", f"Images end in {listing(_IMAGES)}.")
    return images


class Masks:
    """The files below ``masks/``.

    Args:
        root: The data set's folder.
        suffix: What a mask's name has more than its image's.
        lossy: Whether masks may be in formats that change values.
    """

    def __init__(self, root: Path, suffix: str, *, lossy: bool) -> None:
        self._root = root
        self._suffix = suffix
        self._extensions = (*_LOSSLESS, *_LOSSY) if lossy else _LOSSLESS
        self._files = _by_name(root / "masks", self._extensions)

    def pairs(self, names: Iterable[str], images: Mapping[str, str]) -> tuple[Pair, ...]:
        """The samples of those names.

        Raises:
            DataError: An image has no mask.
        """
        pairs = []
        lossy: Mapping[str, str] | None = None
        for name in names:
            mask = self._files.get(name + self._suffix)
            if mask is None:
                if not tolerates_faults():
                    raise self._no_mask(name, images)
                lossy = _by_name(self._root / "masks", _LOSSY) if lossy is None else lossy
                mask = lossy.get(name + self._suffix, f"{name}{self._suffix}.png")
            pairs.append(Pair(name, f"images/{images.get(name, name)}", f"masks/{mask}"))
        return tuple(pairs)

    def refuse_orphans(self, names: Collection[str], folders: Collection[str] = ()) -> None:
        """Refuses masks that belong to no image, of all masks or of those in the sub-folders `folders`."""
        expected = {name + self._suffix for name in names}
        orphans = [
            file
            for name, file in self._files.items()
            if name not in expected and (not folders or name.split("/")[0] in folders)
        ]
        if orphans and not tolerates_faults():
            more = f", nor have {len(orphans) - 1} other masks" if len(orphans) > 1 else ""
            raise DataError(
                f"{self._root / 'masks' / orphans[0]} has no image of that name below images/{more}.",
                "Add the image, remove the mask, or name the samples to use in train.txt and val.txt.",
            )

    def _no_mask(self, name: str, images: Mapping[str, str]) -> DataError:
        missing = [other for other in images if other + self._suffix not in self._files]
        more = f", nor have {len(missing) - 1} others" if len(missing) > 1 else ""
        wanted = self._root / "masks" / f"{name}{self._suffix}.png"
        hint = "Add it, or name the samples to use in train.txt and val.txt."
        longer = [mask for mask in self._files if mask.startswith(name) and mask != name]
        lossy = _by_name(self._root / "masks", _LOSSY).get(name + self._suffix)
        if lossy:
            hint = (
                f"{self._root / 'masks' / lossy} is in a format that changes values; save masks as PNG, or, for two "
                "classes, give the option threshold, such as --dataset.threshold 128."
            )
        elif longer:
            rest = longer[0].removeprefix(name)
            hint = f"There is masks/{self._files[longer[0]]}: if that is the mask, say --dataset.mask_suffix {rest}"
        return DataError(
            f"{self._root / 'images' / images[name]} has no mask{more}: there is no {wanted} (or another extension).",
            hint,
        )


def _by_name(folder: Path, extensions: Collection[str]) -> dict[str, str]:
    """Path without extension -> path of the files below `folder`, both relative to it with forward slashes, sorted.

    Hidden files and folders, which operating systems leave behind, are skipped.
    """
    found: dict[str, str] = {}
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        for file in files:
            stem, extension = os.path.splitext(file)
            if file.startswith(".") or extension.lower() not in extensions:
                continue
            below = Path(os.path.relpath(parent, folder)).as_posix()
            prefix = "" if below == "." else f"{below}/"
            name, path = prefix + stem, prefix + file
            if name in found:
                first, second = sorted((found[name], path))
                raise DataError(
                    f"{folder / first} and {folder / second} have one name.", "Rename or remove one of them."
                )
            found[name] = path
    return dict(sorted(found.items()))
