"""What may come out of an archive: names, links and kinds of its members, judged before anything is written."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import IO, Literal

__all__ = ["Bounds", "Member", "UnsafeError", "clean_name", "folded", "hard_link_source", "refuse_link"]

_LONGEST_NAME = 4096
_LONGEST_PART = 255  # bytes; no common file system takes more
_RESERVED = (".download", ".archives")  # where segctl keeps what it has done: an archive has no say in that


class UnsafeError(Exception):
    """A member that an honest archive of a data set does not have; says what it is."""


@dataclass(frozen=True)
class Bounds:
    """How much may come out of an archive.

    Attributes:
        ratio: Times the size of the archive; masks shrink well, but not a thousandfold.
        floor: Bytes that are allowed whatever the ratio.
        members: Files, folders and links together.
    """

    ratio: float = 200.0
    floor: int = 2**26
    members: int = 5_000_000

    def bytes_of(self, archive_size: int) -> int:
        """How many bytes may come out of an archive of so many."""
        return max(self.floor, int(self.ratio * archive_size))


@dataclass(frozen=True)
class Member:
    """One entry of an archive.

    Attributes:
        name: As it stands there.
        kind: ``other`` is what has no place in a data set: a device, a pipe, something encrypted.
        size: Bytes of a file.
        target: Of a link, as it stands there.
        open: Gives a file's content.
        what: What an ``other`` one is, in words.
    """

    name: str
    kind: Literal["file", "folder", "link", "hard link", "other"]
    size: int = 0
    target: str = ""
    open: Callable[[], IO[bytes]] | None = None
    what: str = ""


def clean_name(name: str) -> tuple[str, ...]:
    """The parts of a member's name below the folder that it is unpacked in; none for that folder itself.

    Raises:
        UnsafeError: It leads elsewhere, or is no name.
    """
    if "\0" in name or len(name) > _LONGEST_NAME:
        raise UnsafeError(f"a name that is none ({name[:40]!r})")
    if name.startswith("/") or (len(name) > 1 and name[1] == ":" and name[0].isalpha()):
        raise UnsafeError(f"{name!r}, an absolute path")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise UnsafeError(f"{name!r}, a path that leads out of its folder")
    if any(len(os.fsencode(part)) > _LONGEST_PART for part in parts):
        raise UnsafeError(f"a name of more than {_LONGEST_PART} bytes ({name[:40]!r})")
    if _is_reserved(parts):
        raise UnsafeError(f"{name!r}, where segctl keeps account of what it has done")
    return parts


def _is_reserved(parts: Sequence[str]) -> bool:
    # At any depth: a folder may be a link to the one above it, of this archive or of one before.
    return any(folded((part,), case_matters=False) in _RESERVED for part in parts)


def folded(parts: tuple[str, ...], *, case_matters: bool) -> str:
    """What two names must differ in to be two files: on some file systems `A.png` and `a.png` are one."""
    name = "/".join(parts)
    return name if case_matters else unicodedata.normalize("NFC", name).casefold()


def refuse_link(parts: tuple[str, ...], target: str) -> None:
    """Lets a symbolic link pass that stays inside: up by no more folders than it lies deep, and from there only down.

    What comes after the first step down may itself be a link of the archive; as that obeys the same rule, and nothing
    goes up again, the whole way stays inside.

    Raises:
        UnsafeError: It may lead out.
    """
    steps = [step for step in target.split("/") if step not in ("", ".")]
    up = next((number for number, step in enumerate(steps) if step != ".."), len(steps))
    if (
        not target
        or "\0" in target
        or target.startswith("/")
        or up > len(parts) - 1
        or ".." in steps[up:]
        or _is_reserved(steps)
    ):
        raise UnsafeError(f"{'/'.join(parts)!r}, a link to {target!r}")


def hard_link_source(parts: tuple[str, ...], target: str, files: Collection[tuple[str, ...]]) -> tuple[str, ...]:
    """The earlier file of the same archive that a hard link is of.

    Raises:
        UnsafeError: There is no such file.
    """
    try:
        source = clean_name(target)
    except UnsafeError:
        source = ()
    if source not in files:
        raise UnsafeError(f"{'/'.join(parts)!r}, a hard link to {target!r}, which is not in it")
    return source
