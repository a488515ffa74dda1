"""A sweep is a folder beside its runs, ``RUNS/<sweep id>``, with their table, sweep.json, written before submission.

Each of its runs is a run like any other, whose run.json names the sweep (``sweep``) and what it tries (``point``).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segctl.errors import RunError
from segctl.runs import store
from segctl.runs.files import current_umask, read_json, write_json
from segctl.runs.run import Reference, Run

__all__ = ["Sweep", "create", "find", "meant", "new_id", "read", "remove"]


@dataclass(frozen=True)
class Sweep:
    """A sweep, as its table has it.

    Attributes:
        path: Its folder.
        name: The name it was given.
        runs: Its runs, in the order of its points; a folder may have been removed since.
        points: What each tries: values by key.
    """

    path: Path
    name: str | None
    runs: tuple[Run, ...]
    points: tuple[Mapping[str, Any], ...]

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def file(self) -> Path:
        return self.path / "sweep.json"

    @property
    def logs(self) -> Path:
        """Where the jobs of an array write until they know whose they are."""
        return self.path / "logs"

    @property
    def present(self) -> tuple[Run, ...]:
        """Its runs, without those whose folder has been removed since."""
        return tuple(run for run in self.runs if run.run_file.exists())


def new_id(label: str, runs_dir: Path) -> str:
    """An id that no run and no sweep in the folder has."""
    return store.new_id(label, time.time(), runs_dir)


def create(
    sweep_id: str,
    runs_dir: Path,
    runs: Sequence[Run],
    points: Sequence[Mapping[str, Any]],
    fill: Callable[[Path], None] = lambda folder: None,
    **facts: Any,
) -> Sweep:
    """Makes a sweep's folder; it appears only when it is complete.

    Args:
        sweep_id: From `new_id`.
        runs_dir: Folder of the runs, which holds all of them already.
        runs: Its runs.
        points: What each tries.
        fill: Puts into the folder what its runs share.
        facts: Other fields of sweep.json, such as ``name``.

    Raises:
        RunError: The folder cannot be written. Nothing is left behind.
    """
    building: Path | None = None
    elements = [{"run": run.id, "point": dict(point)} for run, point in zip(runs, points, strict=True)]
    content = {"id": sweep_id, "created": time.time(), **facts, "elements": elements}
    try:
        building = Path(tempfile.mkdtemp(prefix=".new-", dir=runs_dir))
        (building / "logs").mkdir()
        fill(building)
        write_json(building / "sweep.json", content)
        building.chmod(0o777 & ~current_umask())
        building.rename(runs_dir / sweep_id)
    except BaseException as error:
        if building is not None:
            shutil.rmtree(building, ignore_errors=True)
        if isinstance(error, OSError):
            raise RunError(
                f"No sweep can be made in {runs_dir}: {error.strerror or error}.",
                "Choose a folder that can be written with --runs-dir or $SEGCTL_RUNS.",
            ) from error
        raise
    return read((runs_dir / sweep_id).resolve())


def remove(sweep: Sweep) -> None:
    """Removes a sweep of which nothing could be submitted; its runs are removed by themselves."""
    hidden = sweep.path.with_name(f".gone-{sweep.id}")
    sweep.path.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def read(path: Path) -> Sweep:
    """The sweep in a folder.

    Raises:
        RunError: There is none, or its table is damaged.
    """
    content = read_json(path / "sweep.json") or {}
    elements = content.get("elements")
    if not isinstance(elements, list) or not all(isinstance(one, dict) and one.get("run") for one in elements):
        raise RunError(f"{path} is not a sweep: it has no sweep.json that can be read.")
    return Sweep(
        path=path,
        name=content.get("name"),
        runs=tuple(Run(path.parent / str(one["run"])) for one in elements),
        points=tuple(one.get("point") or {} for one in elements),
    )


def meant(reference: Reference, runs_dir: Path) -> Sweep | None:
    """The sweep that is meant by its id, the unique start or random end of an id, its name, or its path; None where
    the reference means no sweep.

    Raises:
        RunError: It may mean several sweeps, or a sweep as well as a run; they are named.
    """
    text = os.fspath(reference)
    if os.sep in text or text in (".", ".."):
        path = Path(text)
        folder = path.parent if path.name == "sweep.json" else path
        return read(folder.resolve()) if (folder / "sweep.json").is_file() else None
    ids = store.folders_with("sweep.json", runs_dir)
    if text in ids:
        return read(runs_dir.resolve() / text)
    found = store.candidates(text, ids, lambda sweep_id: read_json(runs_dir / sweep_id / "sweep.json") or {})
    if not text or not found:
        return None
    runs = {run.id: run for run in store.all_runs(runs_dir)}
    others = store.candidates(text, runs, lambda run_id: store.record(runs[run_id]))
    if len(found) > 1 or others:
        raise store.ambiguous(text, [*found, *others])
    return read(runs_dir.resolve() / found[0])


def find(reference: Reference, runs_dir: Path) -> Sweep:
    """The same, where it has to be a sweep.

    Raises:
        RunError: There is none, or there are several.
    """
    sweep = meant(reference, runs_dir)
    if sweep is None:
        known = ", ".join(store.folders_with("sweep.json", runs_dir)[:5])
        raise RunError(
            f"There is no sweep {os.fspath(reference)!r} in {runs_dir}.",
            f"The newest are {known}." if known else "'segctl train --set KEY=VALUE,VALUE' starts one.",
        )
    return sweep
