"""Which code a run's job runs: the snapshot that was taken at submission, or what is installed when it starts."""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from segctl.errors import RunError
from segctl.runs import module_files, repository
from segctl.runs.files import read_json
from segctl.runs.run import Run

_LIBRARIES = ("torch", "torchvision", "numpy", "pillow", "pydantic", "submitit")
_SECONDS = 5.0  # for all repositories together; the job waits for it


def versions(others: Iterable[str] = ()) -> dict[str, str]:
    """Versions of Python, segctl, the libraries that matter and `others`, read without importing anything."""
    from importlib import metadata

    found = {"python": platform.python_version()}
    for name in ("segctl", *_LIBRARIES, *others):
        with contextlib.suppress(metadata.PackageNotFoundError, OSError):
            found[name] = metadata.version(name)
    return found


def segctl_folder() -> Path:
    """Where this process has segctl from."""
    return Path(__file__).resolve().parents[1]


def snapshot_path(run: Run) -> tuple[Path, ...]:
    """What goes before all else on the import path of the run's processes; empty where no snapshot was taken.

    Raises:
        RunError: There was one, but it is gone.
    """
    snapshot = (read_json(run.run_file) or {}).get("snapshot") or {}
    folders = tuple(run.path / entry for entry in snapshot.get("python_path", ()))
    for folder in folders:
        if not folder.is_dir():
            raise RunError(
                f"{run.id} runs the code that was frozen when it was submitted, but {folder} is gone.",
                f"Put it back, or train anew with the code of today: segctl train {os.path.relpath(run.config_file)}",
            )
    return folders


def with_snapshot(environ: Mapping[str, str], run: Run) -> dict[str, str]:
    """`environ` for a process of the run: its snapshot, where it has one, comes first on the import path.

    Raises:
        RunError: See `snapshot_path`.
    """
    first = os.pathsep.join(map(str, snapshot_path(run)))
    given = environ.get("PYTHONPATH", "")
    if given.startswith(first):  # nothing to add, or added by this process's parent
        return dict(environ)
    # An empty entry would mean the working directory.
    return {**environ, "PYTHONPATH": os.pathsep.join(filter(None, (first, given)))}


def snapshot_lines(run: Run) -> tuple[str, ...]:
    """The same for a script of the shell.

    Raises:
        RunError: See `snapshot_path`.
    """
    first = os.pathsep.join(map(str, snapshot_path(run)))
    return (f"export PYTHONPATH={shlex.quote(first)}${{PYTHONPATH:+:$PYTHONPATH}}",) if first else ()


def refuse_other_code(run: Run) -> None:
    """Called by each process of a job, before it imports any plugin.

    Raises:
        RunError: The run has a snapshot, but this process would import other code.
    """
    known = {os.path.realpath(entry) for entry in sys.path}
    for folder in snapshot_path(run):
        if os.path.realpath(folder) not in known:
            raise RunError(
                f"This process would not run the frozen code: {folder} is not on its import path.",
                "Something replaces PYTHONPATH on the way, such as a module or a container: see launch.slurm.setup.",
            )


def told(run: Run) -> tuple[str, list[str]]:
    """What a job says of its code when it starts.

    Returns:
        Which code and which Python it runs; and what has changed since the run was submitted, each in a sentence.
    """
    record = read_json(run.run_file) or {}
    frozen = ", with the code that was frozen when it was submitted" if record.get("snapshot") else ""
    now = versions(_distributions(record))
    which = f"segctl {now.get('segctl', '?')} in {segctl_folder()}, Python {now['python']} ({sys.executable}){frozen}"
    return which, changes(record, now, _repositories_now(record), _modules_now(record))


def _distributions(record: Mapping[str, Any]) -> set[str]:
    return {str(plugin["distribution"]) for plugin in record.get("plugins", {}).values()}


def _repositories_now(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    if record.get("snapshot"):
        return []
    deadline = time.monotonic() + _SECONDS
    roots = [Path(one["root"]) for one in record.get("repositories", ()) if "commit" in one]
    return [repository.look(root, deadline).as_record() for root in roots]


def _modules_now(record: Mapping[str, Any]) -> dict[str, str]:
    if record.get("snapshot"):
        return {}
    deadline = time.monotonic() + _SECONDS
    known = record.get("modules", {})
    return {name: module_files.digest(name, Path(one["folder"]), deadline) for name, one in known.items()}


def changes(
    record: Mapping[str, Any],
    now: Mapping[str, str],
    repositories: Iterable[Mapping[str, Any]],
    modules: Mapping[str, str] = {},
) -> list[str]:
    """How the code differs from what `record`, a run.json, says of it.

    Args:
        now: As of `versions`; what is not in it counts as removed.
        repositories: As `segctl.runs.repository.State` records them. One that could not be asked is left out.
        modules: Digests of `segctl.runs.module_files`. One that could not be had is left out.
    """
    then = dict(record.get("versions", {}))
    then |= {plugin["distribution"]: plugin["version"] for plugin in record.get("plugins", {}).values()}
    found = [
        f"{name} was {version}, is {now.get(name) or 'no longer installed'}"
        for name, version in then.items()
        if version and version != now.get(name)
    ]
    told: set[str] = set()
    recorded = {one["root"]: one for one in record.get("repositories", ())}
    for one in repositories:
        before = recorded.get(one["root"], {})
        if "commit" not in one or "commit" not in before:
            continue
        if one["commit"] != before["commit"]:
            found.append(f"{one['root']} was at {_short(before)}, is at {_short(one)}")
        elif None not in (digests := [each.get("diff_sha256") for each in (before, one)]) and len(set(digests)) > 1:
            found.append(f"{one['root']} has other uncommitted changes")
        else:
            continue
        told.add(one["root"])
    for name, one in record.get("modules", {}).items():
        folder = Path(one["folder"])
        if told.isdisjoint(map(str, (folder, *folder.parents))) and modules.get(name, "") not in ("", one["sha256"]):
            found.append(f"the files of {name} in {folder} have changed")
    return found


def _short(repository: Mapping[str, Any]) -> str:
    return f"commit {str(repository['commit'])[:10]}" if repository["commit"] else "no commit"
