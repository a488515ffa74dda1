"""When an archive that was fetched is not needed any more, and its removal where a kill came in between.

Beside each archive stands who wants it unpacked where, and whether it is to be kept. It is removed when all of them
have it, by whoever sees that first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from segctl.download.lock import held
from segctl.download.plan import Item, place_key
from segctl.download.stopping import Stop, StoppedError
from segctl.download.unpack import marker
from segctl.runs.files import read_json, write_json

__all__ = ["clear", "remove_empty", "tidy", "want"]

_NOTE = "wanted.json"


def want(folder: Path, item: Item, *, keep: bool) -> None:
    """Notes who wants an archive, before its first byte is fetched. The caller holds its lock."""
    before = read_json(folder / _NOTE) or {}
    places = [list(place) for place in _places(before)]
    new = [[str(target.root), place_key(target.archive)] for target in item.targets]
    places += [place for place in new if place not in places]
    note = {"places": places, "keep": keep or bool(before.get("keep"))}
    if note != before:
        write_json(folder / _NOTE, note)


def _places(note: dict[str, Any]) -> list[tuple[str, str]]:
    return [(str(root), str(key)) for root, key in note.get("places", [])]


def clear(folder: Path) -> None:
    """Removes an archive that all have unpacked who wanted it, unless it is kept. The caller holds its lock."""
    note = read_json(folder / _NOTE) or {}
    files = [path for path in folder.iterdir() if path.name.partition(".")[0] != "lock"]
    needed = note.get("keep") or not all(marker(Path(root), key).is_file() for root, key in _places(note))
    if needed and files != [folder / _NOTE]:  # the note alone: nothing has come of it
        return
    for path in sorted(files, key=lambda path: path.name == _NOTE):  # the note last: a next call goes by it
        path.unlink()


def remove_empty(folder: Path) -> None:
    """Removes an archive's folder, and the one that it stands in, where nothing is left in them."""
    with contextlib.suppress(OSError):
        folder.rmdir()
        folder.parent.rmdir()


def tidy(folders: Iterable[Path]) -> None:
    """`clear` for archives that a killed call has left, unless somebody is at them or they cannot be removed."""
    for folder in folders:
        if not folder.is_dir():
            continue
        with contextlib.suppress(OSError, StoppedError), held(folder / "lock", Stop(lambda: True), lambda owner: None):
            clear(folder)
        remove_empty(folder)
