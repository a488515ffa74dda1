"""A download as a job's run directory holds it: everything but passwords."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from segctl.errors import RunError

__all__ = ["Request"]


@dataclass(frozen=True)
class Request:
    """What `segctl.download` is called with.

    Attributes:
        names: Data sets.
        data_root: Their folder, absolute.
        mirror: An address or a folder; empty for none.
        files: What the user already has, absolute.
        keep_archives: See `segctl.download`.
        at_once: See `segctl.download`.
    """

    names: tuple[str, ...]
    data_root: str
    mirror: str
    files: tuple[str, ...]
    keep_archives: bool
    at_once: int

    def text(self) -> str:
        """As config.yaml has it."""
        import yaml

        plain = {**asdict(self), "names": list(self.names), "files": list(self.files)}
        return yaml.safe_dump({"download": plain}, sort_keys=False, allow_unicode=True)

    @classmethod
    def read(cls, file: Path) -> Request:
        """Raises RunError where the file is missing or damaged."""
        import yaml

        try:
            content: dict[str, Any] = yaml.safe_load(file.read_text("utf-8"))["download"]
            return cls(**{**content, "names": tuple(content["names"]), "files": tuple(content["files"])})
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise RunError(f"{file} is missing or damaged.", "Submit the download anew.") from error
