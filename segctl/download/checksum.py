"""Which checksum a file is held against, and what was found of it, so that it is not read again for that."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segctl.errors import DownloadError
from segctl.runs.files import read_json, write_json

if TYPE_CHECKING:
    from segctl.plugin import Archive

__all__ = ["Checksum", "Running", "known", "published", "record"]

_STRONGEST_FIRST = ("sha256", "sha1", "md5")
_CHUNK = 2**20


@dataclass(frozen=True)
class Checksum:
    """A digest and how it was made: ``sha256``, ``sha1`` or ``md5``; `value` in lower-case hexadecimal."""

    kind: str
    value: str

    def __str__(self) -> str:
        return f"{self.kind} {self.value}"


def published(archive: Archive) -> Checksum | None:
    """The strongest checksum that is known of an archive, or None."""
    values = {kind: str(getattr(archive, kind)).strip().lower() for kind in _STRONGEST_FIRST}
    return next((Checksum(kind, value) for kind, value in values.items() if value), None)


class Running:
    """The digest of a file that grows: fed while it is fetched, or read once from disk where it lags behind.

    Attributes:
        position: How many bytes it covers.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.restart()

    def restart(self) -> None:
        self._hash = hashlib.new(self._kind, usedforsecurity=False)
        self.position = 0

    def feed(self, data: bytes) -> None:
        self._hash.update(data)
        self.position += len(data)

    def catch_up(self, file: Path, size: int, report: Callable[[int], None]) -> None:
        """Reads what is missing up to `size`; `report` is told the position now and then, and may raise.

        Raises:
            DownloadError: The file cannot be read.
        """
        if self.position > size:
            self.restart()
        try:
            with file.open("rb", buffering=0) as content:
                content.seek(self.position)
                while self.position < size and (data := content.read(min(_CHUNK, size - self.position))):
                    self.feed(data)
                    report(self.position)
        except OSError as error:
            raise DownloadError(f"{file} cannot be read: {error.strerror}.") from error

    @property
    def checksum(self) -> Checksum:
        return Checksum(self._kind, self._hash.hexdigest())


def record(path: Path, file: Path, found: Checksum) -> None:
    """Notes beside an archive that it was read and what its checksum is."""
    write_json(path, {"file": str(file), **_identity(file), "kind": found.kind, "value": found.value})


def known(path: Path, file: Path, kind: str) -> Checksum | None:
    """What `record` noted of this very file, or None where it was not read or has changed since."""
    content = read_json(path) or {}
    try:
        same = all(content.get(name) == value for name, value in {"file": str(file), **_identity(file)}.items())
    except OSError:
        return None
    if not same or content.get("kind") != kind:
        return None
    return Checksum(kind, str(content.get("value")))


def _identity(file: Path) -> dict[str, Any]:
    found = file.stat()
    return {"size": found.st_size, "modified": found.st_mtime_ns}
