"""Making runs and finding them again."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from segctl.errors import RunError, did_you_mean, listing
from segctl.runs.files import current_umask, read_json, write_json, write_text
from segctl.runs.process import hostname
from segctl.runs.run import Run

_TAIL_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # nothing that is mistaken for something else


def runs_dir(given: Path | None = None) -> Path:
    """The folder of the runs: the given one, else ``$SEGCTL_RUNS``, else ``runs``."""
    return Path(given) if given is not None else Path(os.environ.get("SEGCTL_RUNS") or "runs")


def create(config_text: str | Callable[[Run], str], record: Mapping[str, Any], runs_dir: Path) -> Run:
    """Makes a run's directory; it appears in `runs_dir` only when it is complete.

    Args:
        config_text: Content of config.yaml; or what gives it for the run as it will be.
        record: Content of run.json but for ``id``; ``created`` and ``host`` are added where missing. A ``name``, else
            ``model`` and ``dataset``, become part of the id.
        runs_dir: Folder of the runs; made if it does not exist.

    Raises:
        RunError: The folder cannot be made or written to, or the disk is full. Nothing is left behind.
    """
    made = _missing_parents(runs_dir)
    building: Path | None = None
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=".new-", dir=runs_dir))
        created = float(record.get("created") or time.time())
        run_id = new_id(_label(record), created, runs_dir)
        draft = Run(building)
        for folder in (draft.logs, draft.errors, draft.checkpoints):
            folder.mkdir()
        text = config_text if isinstance(config_text, str) else config_text(Run(runs_dir.resolve() / run_id))
        write_text(draft.config_file, text)
        write_json(draft.run_file, {"id": run_id, "created": created, "host": hostname(), **record})
        building.chmod(0o777 & ~current_umask())
        building.rename(runs_dir / run_id)
    except BaseException as error:
        if building is not None:
            shutil.rmtree(building, ignore_errors=True)
        _remove_empty(made)
        if isinstance(error, OSError):
            raise _no_run(runs_dir, error) from error
        raise
    return Run((runs_dir / run_id).resolve())


def refuse_unwritable(runs_dir: Path) -> None:
    """Raises RunError where no run can be made in the folder, or where the folder itself cannot be; makes neither."""
    try:
        there = next(path for path in (runs_dir, *runs_dir.absolute().parents) if path.exists())
        # Tried, for permissions do not say it: of the kernel's folders, of quotas, of root on a network file system.
        Path(tempfile.mkdtemp(prefix=".new-", dir=there)).rmdir()
    except OSError as error:
        raise _no_run(runs_dir, error) from error


def _no_run(runs_dir: Path, error: OSError) -> RunError:
    absent = isinstance(error, FileNotFoundError)
    why = "no folder can be made there" if absent else error.strerror or str(error)
    return RunError(
        f"No run can be made in {runs_dir}: {why}.",
        "Choose a folder that can be written with --runs-dir or $SEGCTL_RUNS.",
    )


def remove(run: Run) -> None:
    """Removes a run that has no job (any more): first out of sight, then for good."""
    hidden = run.path.with_name(f".gone-{run.id}")
    run.path.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def all_runs(runs_dir: Path) -> list[Run]:
    """Every run in the folder, newest first; none where there is no such folder.

    Raises:
        RunError: The folder is there but cannot be read.
    """
    folder = runs_dir.resolve()
    return [Run(folder / name) for name in folders_with("run.json", runs_dir)]


def folders_with(file: str, runs_dir: Path) -> list[str]:
    """The names of the folders in `runs_dir` that hold such a file, newest first: ids of runs or of sweeps.

    Raises:
        RunError: The folder is there but cannot be read.
    """
    try:
        names = sorted((entry.name for entry in os.scandir(runs_dir) if not entry.name.startswith(".")), reverse=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(
            f"The runs folder {runs_dir} cannot be read: {error.strerror}.", "Name another one with --runs-dir."
        ) from error
    return [name for name in names if os.path.exists(os.path.join(runs_dir, name, file))]


def find(reference: str | os.PathLike[str], runs_dir: Path) -> Run:
    """The run that is meant by its id, the unique start or random end of an id, its ``--name``, or its path.

    Raises:
        RunError: There is none, or there are several; they are named.
    """
    text = os.fspath(reference)
    if os.sep in text or text in (".", ".."):
        return _at(Path(text))
    runs = {run.id: run for run in all_runs(runs_dir)}
    if text in runs:
        return runs[text]
    found = candidates(text, runs, lambda run_id: record(runs[run_id]))
    if len(found) == 1:
        return runs[found[0]]
    if found:
        raise ambiguous(text, found)
    if _is_run(Path(text)):
        return _at(Path(text))
    sweeps = folders_with("sweep.json", runs_dir)
    if candidates(text, sweeps, lambda sweep_id: read_json(runs_dir / sweep_id / "sweep.json") or {}):
        raise RunError(f"{text} is a sweep, not a run.", f"'segctl status {text}' lists its runs.")
    raise RunError(f"There is no run {text!r} in {runs_dir}.", _hint(text, list(runs)))


def candidates(text: str, ids: Iterable[str], record_of: Callable[[str], Mapping[str, Any]]) -> list[str]:
    """The ids that start with `text` or have it as their random end; else those whose record has that ``name``."""
    known = list(ids)
    found = [each for each in known if each.startswith(text) or each.endswith(f"-{text}")] if text else []
    return found or [each for each in known if f"-{_slug(text)}-" in each and record_of(each).get("name") == text]


def ambiguous(text: str, ids: list[str]) -> RunError:
    return RunError(f"{text!r} may mean {_shown(ids)}.", "Give more of the id.")


def newest(predicate: Callable[[Mapping[str, Any]], bool], runs_dir: Path) -> Run | None:
    """The newest run whose run.json satisfies `predicate`, or None."""
    matching = [
        (float(content.get("created") or 0), run.id, run)
        for run in all_runs(runs_dir)
        if predicate(content := record(run))
    ]
    return max(matching, key=lambda item: item[:2])[2] if matching else None


def record(run: Run) -> dict[str, Any]:
    """The content of run.json; empty where it is damaged."""
    return read_json(run.run_file) or {}


def _label(record: Mapping[str, Any]) -> str:
    return record.get("name") or "-".join(str(record[key]) for key in ("model", "dataset") if record.get(key)) or "run"


def new_id(label: str, created: float, runs_dir: Path) -> str:
    """An id that is not in use: time, label, and a random end.

    Args:
        label: What the id is to be remembered by.
        created: Unix seconds.
        runs_dir: Folder of the runs.
    """
    moment = time.strftime("%Y%m%d-%H%M%S", time.localtime(created))
    while True:
        run_id = f"{moment}-{_slug(label)}-{''.join(secrets.choice(_TAIL_ALPHABET) for _ in range(4))}"
        if not (runs_dir / run_id).exists():
            return run_id


def _slug(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip("-.")[:80] or "run"


def _is_run(path: Path) -> bool:
    return (path / "run.json").is_file()


def _at(path: Path) -> Run:
    folder = path.parent if path.name in ("config.yaml", "run.json") else path
    if not _is_run(folder):
        raise RunError(
            f"{path} is not a run: it has no run.json.", "A run's folder is the one that 'segctl train' printed."
        )
    return Run(folder.resolve())


def _hint(text: str, ids: list[str]) -> str:
    if not ids:
        return "There are no runs there; name another folder with --runs-dir or $SEGCTL_RUNS."
    return did_you_mean(text, ids) or f"The newest are {_shown(ids)}."


def _shown(ids: list[str]) -> str:
    return listing(ids) if len(ids) <= 5 else f"{', '.join(ids[:5])} and {len(ids) - 5} more"


def _missing_parents(folder: Path) -> list[Path]:
    """The folders that making `folder` will make, innermost first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
