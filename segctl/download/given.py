"""Files that the user already has: those of `--from`, and of a `--mirror` that is a folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from segctl.download.checksum import Checksum, Running, published
from segctl.errors import ConfigError, DownloadError, listing
from segctl.plugin import Archive

__all__ = ["Given", "mirror_of"]


def mirror_of(text: str) -> tuple[str, Path | None]:
    """A mirror as an address or as a folder; the other of the two is empty.

    Raises:
        ConfigError: It is neither.
    """
    if not text:
        return "", None
    parts = urlsplit(text)
    if parts.scheme in ("http", "https"):
        if parts.username is not None or parts.password is not None:
            raise ConfigError(
                "--mirror: the address holds a name or a password, which others on this machine can see.",
                f"Write 'machine {parts.hostname} login NAME password PASSWORD' into ~/.netrc.",
            )
        if parts.query or parts.fragment:
            raise ConfigError(
                "--mirror: an address with a query ('?...') is no beginning of others, and may hold a secret.",
                "Give the address of the folder that holds the files; or fetch them and give them with --from.",
            )
        return text, None
    if "://" in text:
        raise ConfigError(f"--mirror: {text!r} is neither http nor https.", "Give such an address, or a folder.")
    folder = Path(os.path.expanduser(text)).absolute()
    if not folder.is_dir():
        raise ConfigError(f"--mirror: there is no folder {folder}.", "Give a folder, or an address (https://...).")
    return "", folder


class Given:
    """Finds archives among files that are there.

    Args:
        sources: Files, and folders that hold some, also in folders of their own.
        folder: Of a mirror.

    Raises:
        ConfigError: One of `sources` is not there.
    """

    def __init__(self, sources: Sequence[str | os.PathLike[str]], folder: Path | None) -> None:
        self._files: dict[str, Path] = {}
        self._named: list[Path] = []
        self._found: dict[tuple[str, Checksum | None], Path | None] = {}
        for source in sources:
            path = Path(os.path.expanduser(source)).absolute()
            if path.is_dir():
                self._add(path, *(below for below in sorted(path.iterdir()) if below.is_dir()))
            elif path.is_file():
                self._named.append(path)
                self._files.setdefault(path.name, path)
            else:
                raise ConfigError(f"--from: there is no file or folder {path}.")
        if folder is not None:
            self._add(folder)

    def _add(self, *folders: Path) -> None:
        for folder in folders:
            for path in sorted(folder.iterdir()):
                if path.is_file():
                    self._files.setdefault(path.name, path)

    def find(self, archive: Archive) -> Path | None:
        """The file that is an archive by its name, or, of those that were named one by one, by its checksum."""
        expected = published(archive)
        if (archive.file, expected) not in self._found:  # a checksum takes its time
            self._found[archive.file, expected] = self._files.get(archive.file) or self._by_checksum(archive, expected)
        return self._found[archive.file, expected]

    def _by_checksum(self, archive: Archive, expected: Checksum | None) -> Path | None:
        for path in self._named if expected is not None else ():
            if archive.size not in (None, path.stat().st_size) or expected is None:
                continue
            running = Running(expected.kind)
            running.catch_up(path, path.stat().st_size, lambda position: None)
            if running.checksum == expected:
                return path
        return None

    def refuse_unused(self, archives: Iterable[Archive]) -> None:
        """Raises DownloadError where a file that was named is none of these archives."""
        known = list(archives)
        used = {self.find(archive) for archive in known}
        for path in self._named:
            if path not in used:
                names = listing(dict.fromkeys(archive.file for archive in known))
                raise DownloadError(
                    f"--from: {path} is none of the files that the data set is published as: {names}.",
                    "Give it one of these names if it is one of them.",
                )
