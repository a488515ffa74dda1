"""A digest of a module's files, by which code that no commit names is told from what it was."""

from __future__ import annotations

import hashlib
import importlib.machinery
import os
import time
from pathlib import Path

__all__ = ["digest"]

_SUFFIXES = (*importlib.machinery.SOURCE_SUFFIXES, *importlib.machinery.EXTENSION_SUFFIXES)
_MOST_FILES = 5000
_MOST_BYTES = 256 * 2**20


def digest(name: str, folder: Path, deadline: float) -> str:
    """SHA-256 over the source files and compiled modules of a top-level module, with their names.

    Args:
        name: The module's.
        folder: What it is imported from.
        deadline: On the monotonic clock.

    Returns:
        The digest; empty where there are no such files, one cannot be read, or they are too many to be read by then.
    """
    files = _files(name, folder)
    if not files or len(files) > _MOST_FILES:
        return ""
    found, left = hashlib.sha256(), _MOST_BYTES
    try:
        for file in sorted(files):
            left -= os.path.getsize(folder / file)
            if left < 0 or time.monotonic() > deadline:
                return ""
            found.update(hashlib.sha256((folder / file).read_bytes()).digest() + os.fsencode(file) + b"\0")
    except OSError:
        return ""
    return found.hexdigest()


def _files(name: str, folder: Path) -> list[str]:
    """Relative to `folder`, as an import would find them: a package, else a file."""
    package = folder / name
    if not package.is_dir():
        return [name + suffix for suffix in _SUFFIXES if (folder / (name + suffix)).is_file()]
    found: list[str] = []
    for here, folders, files in os.walk(package):
        folders[:] = [each for each in folders if not each.startswith(".") and each != "__pycache__"]
        found += [os.path.relpath(os.path.join(here, file), folder) for file in files if file.endswith(_SUFFIXES)]
        if len(found) > _MOST_FILES:
            break
    return found
