"""Plugins for tests, installed as pip leaves them: a folder for the import path with modules and a dist-info."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(
    folder: Path, name: str, files: Mapping[str, str | Path] = {}, *, version: str = "1.0", **plugins: Mapping[str, str]
) -> Path:
    """Writes a distribution into `folder`, which may hold others, and returns the folder.

    Args:
        folder: It is made.
        name: The distribution's.
        files: What lies in the folder, by path: the text, or a file to copy.
        version: Its version.
        plugins: By kind (`models`, `datasets`, `losses`) the names offered and what each stands for.
    """
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = (
        f"[segctl.{kind}]\n" + "".join(f"{key} = {target}\n" for key, target in group.items())
        for kind, group in plugins.items()
    )
    (metadata / "entry_points.txt").write_text("\n".join(groups))
    for path, source in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(source.read_text() if isinstance(source, Path) else source)
    return folder
