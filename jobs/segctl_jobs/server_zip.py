"""The zip of predictions that a benchmark's server takes."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from segctl.errors import DataError, PluginError, RunError
from segctl.runs.files import replacing

__all__ = ["paths_inside", "write_zip"]

_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say: equal predictions make equal files


def paths_inside(dataset: Any, name: str) -> list[str]:
    """Where the server wants each sample's prediction.

    Args:
        dataset: An open split.
        name: Its plugin's name, for messages.

    Raises:
        DataError: The data set knows of no server.
        PluginError: It names a path that cannot be one inside a zip, or one twice.
    """
    if not hasattr(dataset, "submission_path"):
        raise DataError(
            f"Data set {name} has no benchmark server that predictions could be sent to.",
            "--save-predictions writes them as they are.",
        )
    paths = [dataset.submission_path(index) for index in range(len(dataset))]
    seen: set[str] = set()
    for path in paths:
        parts = PurePosixPath(path).parts
        if path in seen:
            raise PluginError(f"Data set {name} wants two predictions at {path!r} of its submission.")
        if not parts or parts[0] == "/" or ".." in parts:
            raise PluginError(f"Data set {name} wants {path!r} in its submission, which leads outside.")
        seen.add(path)
    return paths


def write_zip(target: Path, files: Sequence[Path], paths: Sequence[str]) -> None:
    """Puts each file at its path into a zip at `target`, which is replaced atomically. PNGs are not compressed again.

    Raises:
        RunError: A prediction cannot be read or the zip not be written.
    """
    try:
        with replacing(target) as stream, zipfile.ZipFile(stream, "w") as archive:
            for file, path in zip(files, paths, strict=True):
                entry = zipfile.ZipInfo(path, _TIME)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, file.read_bytes())
    except OSError as error:
        raise RunError(
            f"The submission {target} cannot be written: {error.strerror or error}"
            f"{f' ({error.filename})' if error.filename else ''}.",
            "Free some space or mend the file system.",
        ) from error
