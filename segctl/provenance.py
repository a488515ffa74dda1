"""Where a run comes from: what `run.json` records so that a result can be explained, and repeated, years later."""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segctl import __version__

if TYPE_CHECKING:
    from segctl.config.schema import Config

_LIBRARIES = ("torch", "torchvision", "numpy", "pillow", "pydantic", "submitit")


def record(kind: str, config: Config, *, argv: Iterable[str] | None = None) -> dict[str, Any]:
    """What is known before submission about a run of `kind` (``train``, ``eval``): `run.json` but for the id."""
    return {
        "kind": kind,
        "name": config.name,
        "model": config.model.name,
        "backbone": config.model.options.get("backbone"),
        "dataset": config.dataset.name,
        "created": time.time(),
        "argv": list(sys.argv if argv is None else argv),
        "cwd": str(Path.cwd()),
        "host": socket.gethostname(),
        "user": user(),
        "versions": versions(),
        "git": git_state(Path.cwd()),
        "plugins": plugin_distributions(config),
    }


def user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return str(os.getuid())


def versions() -> dict[str, str]:
    """Installed versions, read without importing anything."""
    found = {"segctl": __version__, "python": platform.python_version()}
    for library in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[library] = metadata.version(library)
    return found


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit, branch and whether files differ from it, for the working tree of `folder`; None outside of one."""
    root = _git(folder, "rev-parse", "--show-toplevel")
    commit = _git(folder, "rev-parse", "HEAD")
    if root is None or commit is None:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {
        "root": root,
        "commit": commit,
        "branch": _git(folder, "symbolic-ref", "--short", "-q", "HEAD"),
        "dirty": None if changes is None else bool(changes),
    }


def _git(folder: Path, *arguments: str) -> str | None:
    # GIT_OPTIONAL_LOCKS: recording a state must not write to the user's repository, not even its index.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=10,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def plugin_distributions(config: Config) -> dict[str, dict[str, str]]:
    """Name, distribution and version of each plugin that `config` names, and what code it points to."""
    from segctl.registry import find

    chosen = {"models": config.model, "datasets": config.dataset, **({"losses": config.loss} if config.loss else {})}
    entries = {kind: find(kind, plugin.name) for kind, plugin in chosen.items()}
    return {
        kind: {"name": entry.name, "distribution": entry.distribution, "version": entry.version, "target": entry.target}
        for kind, entry in entries.items()
    }
