"""supervisor.json, as it is kept by the process that carries a job out."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segctl.runs.files import write_json

log = logging.getLogger(__name__)


class StateFile:
    """A file that one process keeps up to date; a full disk must not stop it from ending a job in an orderly way.

    Args:
        path: The file; it is written with the first `write`.
        first: Fields that stand in it from the first.
    """

    def __init__(self, path: Path, first: Mapping[str, Any]) -> None:
        self._path = path
        self._content = dict(first)
        self._pending = False

    def write(self, *, must: bool = False, **fields: Any) -> None:
        """Replaces the file.

        Raises:
            OSError: It could not be written, and it `must`.
        """
        if not self._pending and all(self._content.get(key) == value for key, value in fields.items()):
            return
        self._content.update(fields)
        try:
            write_json(self._path, self._content)
        except OSError as error:
            if must:
                raise
            self._pending = not self._overwrite()
            log.warning("%s could not be replaced: %s", self._path, error)
        else:
            self._pending = False

    def retry(self) -> bool:
        """Writes again what could not be written; True when there is nothing left to write."""
        if self._pending:
            self.write()
        return not self._pending

    def _overwrite(self) -> bool:
        """The last resort on a full disk: in place, within the block that the file has already."""
        data = json.dumps(self._content).encode()
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                data = data.ljust(os.fstat(descriptor).st_size)
                return os.pwrite(descriptor, data, 0) == len(data)
            finally:
                os.close(descriptor)
        except OSError:
            return False
