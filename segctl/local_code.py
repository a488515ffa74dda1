"""Which code is somebody's working copy: imported, but not from a folder that a package installer keeps."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType

__all__ = ["folder_of", "is_installed", "loaded"]

_INSTALLERS = {"site-packages", "dist-packages"}


def loaded(modules: Mapping[str, ModuleType] | None = None) -> dict[str, Path]:
    """The top-level modules of this process that are working copies, each with the folder that it is imported from.

    After the check before a submission these are all that a job imports, and perhaps more: a package that is
    installed editable, or found through PYTHONPATH, or beside the script that called segctl.
    """
    modules = sys.modules if modules is None else modules
    found: dict[str, Path] = {}
    for name, module in list(modules.items()):
        if "." in name or name.startswith("__") or name in sys.stdlib_module_names:
            continue
        locations = [str(path) for path in getattr(module, "__path__", ())]
        origin = getattr(module, "__file__", None)
        for folder in folder_of(origin, locations):
            if not is_installed(folder):
                found.setdefault(name, folder)
    return found


def folder_of(origin: str | None, locations: Iterable[str]) -> tuple[Path, ...]:
    """The folders below which Python has found a module: several for a namespace package without a file of its own.

    Args:
        origin: Its file.
        locations: Where a package's modules are looked for.
    """
    if origin is not None and not Path(origin).is_absolute():  # "built-in", "frozen"
        return ()
    packages = list(locations)
    if origin is not None and packages:
        packages = packages[:1]
    # A package may be a link into a project; but a link that is a file is how some installers keep copies.
    folders = [Path(package).resolve().parent for package in packages if Path(package).is_dir()]
    if origin is not None and not packages and Path(origin).is_file():
        folders = [Path(origin).parent.resolve()]
    return tuple(folders)


@cache
def is_installed(folder: Path) -> bool:
    """Whether an installer put there what can be imported from `folder`, so that nobody edits it."""
    if _INSTALLERS & set(folder.parts):
        return True
    standard = (Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))
    if any(path in (folder, *folder.parents) for path in standard):
        return True
    return any(folder.glob("*.dist-info/RECORD"))  # `pip install --target`, and clusters' module trees
