"""``--snapshot``: the code that a job will import, and that somebody may edit meanwhile, copied into the run.

What counts is where Python itself finds each module in a fresh process with the job's environment, not how a
distribution says it was installed. Of each folder that is no installer's, the project around it is copied as git sees
it. The copies go before everything else on the job's import path; so each holds only those top-level modules that the
job would have imported from the original, and nothing that would hide a module of Python or of another distribution.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segctl import local_code
from segctl.code_files import Tree, amount_text, collect, importable
from segctl.errors import LaunchError, listing
from segctl.runs.code import with_snapshot
from segctl.runs.run import Run

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from segctl.config.schema import Config

__all__ = ["Snapshot", "preflight", "survey", "take"]

_SECONDS = 120.0  # for a Python to start; a cold network disk takes its time
_METADATA = "metadata"
# A fresh Python with the job's environment says where it would import each module from; it imports none.
_PROBE = """
import sys
if not getattr(sys.flags, "safe_path", False): del sys.path[0]
import importlib.util, json
found = {}
for name in json.load(sys.stdin):
    try: spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError): continue
    if spec: found[name] = [spec.origin if spec.has_location else None, list(spec.submodule_search_locations or [])]
sys.stdout.write("\\n" + json.dumps({"path": sys.path, "found": found}))
"""
# Tries a run's configuration as `segctl.bridge` does, but with the code of the run.
_TRY = """
import sys
if not getattr(sys.flags, "safe_path", False): del sys.path[0]
import json
from pathlib import Path
from segctl import bridge
from segctl.config.load import load
from segctl.errors import SegctlError
given = json.load(sys.stdin)
try:
    config = load(given["config"])
    if given["checkpoint"] is not None: notices = bridge.preflight_evaluation(config, Path(given["checkpoint"]))
    else: notices = bridge.preflight(config, processes=given["processes"], from_checkpoint=given["from_checkpoint"])
    said = {"notices": list(notices)}
except SegctlError as error: said = {"message": error.message, "hint": error.hint}
sys.stdout.write("\\n" + json.dumps(said))
"""


@dataclass(frozen=True)
class Seen:
    """What a fresh Python finds.

    Attributes:
        path: Its import path.
        folders: By top-level module, the folders that it would be imported from, as of `local_code.folder_of`.
    """

    path: tuple[Path, ...]
    folders: Mapping[str, tuple[Path, ...]]


@dataclass(frozen=True)
class Snapshot:
    """What is to be copied.

    Attributes:
        trees: Each copied to ``RUN/code/<its name>``.
        python_path: What goes before all else on the job's import path, relative to the run's directory.
        modules: The top-level modules that are then imported from the copies.
        metadata: Files below ``RUN/code/metadata``: of the distributions whose plugins these modules are, so that a
            name goes on meaning what it meant.
    """

    trees: tuple[Tree, ...]
    python_path: tuple[str, ...]
    modules: tuple[str, ...]
    metadata: Mapping[str, str]

    def as_record(self) -> dict[str, Any]:
        """The snapshot as run.json has it."""
        trees = [
            {"name": tree.name, "source": str(tree.source), "files": len(tree.files), "bytes": tree.size}
            for tree in self.trees
        ]
        return {"python_path": list(self.python_path), "modules": list(self.modules), "trees": trees}

    @property
    def notice(self) -> str:
        """What is frozen, in a sentence."""
        if not self.trees:
            return "Nothing has to be frozen: all code that the job imports is installed, none is a working copy."
        amount = amount_text(sum(len(tree.files) for tree in self.trees), sum(tree.size for tree in self.trees))
        sources = listing(str(tree.source) for tree in self.trees)
        return f"The snapshot holds {listing(self.modules)}: {amount}, of {sources}."


def survey(config: Config, runs_dir: Path) -> Snapshot:
    """Decides what a snapshot holds, once all that the job imports has been imported here. Writes nothing.

    Args:
        config: Its data are left out, wherever they lie.
        runs_dir: Left out as well.

    Raises:
        LaunchError: The code cannot be read, leads out of its project, or is too much.
    """
    local = local_code.loaded()
    beside = {name for folder in set(local.values()) for name in importable(folder)}
    seen = probe({*local, *beside}, os.environ)
    roots = import_roots(seen, local)
    leave_out = [Path(config.data_root), runs_dir.absolute()]
    trees, entries = collect(roots, leave_out)
    modules = sorted({name for names in roots.values() for name in names})
    metadata = _metadata(modules) if trees else {}
    first = [f"code/{_METADATA}"] if metadata else []
    return Snapshot(trees, (*first, *(f"code/{entry}" for entry in entries)), tuple(modules), metadata)


def import_roots(seen: Seen, wanted: Iterable[str]) -> dict[Path, frozenset[str]]:
    """The folders to freeze, in the order in which Python looks at them, with all that is imported from each.

    Args:
        wanted: Modules that the job needs. A folder that none of them is in is left alone.
    """
    needed = {folder for name in wanted for folder in seen.folders.get(name, ()) if not local_code.is_installed(folder)}
    order = {folder: place for place, folder in reversed(list(enumerate(seen.path)))}
    last = len(order) + len(seen.path)
    return {
        root: frozenset(name for name, folders in seen.folders.items() if root in folders)
        for root in sorted(needed, key=lambda folder: (order.get(folder, last), folder))
    }


def probe(names: Iterable[str], environ: Mapping[str, str]) -> Seen:
    """Asks a fresh Python where it would import modules from.

    Raises:
        LaunchError: It cannot be started.
    """
    answer = _python(_PROBE, sorted(names), environ, "cannot say what the job will import")
    folders = {name: local_code.folder_of(origin, locations) for name, (origin, locations) in answer["found"].items()}
    return Seen(tuple(Path(entry).resolve() for entry in answer["path"]), folders)


def _python(program: str, given: Any, environ: Mapping[str, str], fails: str) -> Any:
    """What a program answers that is run by a fresh Python, both in JSON."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(given),
            env=dict(environ),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        )
        return json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise LaunchError(
            f"{sys.executable} {fails}: {said[-1] if said else type(error).__name__}.",
            "What stands in its way is in PYTHONPATH or in the environment's site-packages.",
        ) from error


def _metadata(modules: Sequence[str]) -> dict[str, str]:
    """Copies of what names the plugins in `modules`: the distribution's name, its version and its entry points."""
    from importlib import metadata

    files: dict[str, str] = {}
    done: set[str] = set()
    for found in metadata.distributions():
        try:
            offered = {point.value.split(":")[0].split(".")[0].strip() for point in found.entry_points if _ours(point)}
            if not offered & set(modules):
                continue
            name, version = re.sub(r"[-_.]+", "_", found.metadata["Name"]), found.version
            texts = (found.read_text("METADATA") or found.read_text("PKG-INFO"), found.read_text("entry_points.txt"))
        except Exception:  # somebody's damaged metadata
            continue
        if name.lower() not in done:  # the first one on the path is the one that counts
            folder = f"{name}-{version}.dist-info"
            files |= {f"{folder}/METADATA": str(texts[0]), f"{folder}/entry_points.txt": str(texts[1])}
        done.add(name.lower())
    return files


def _ours(point: EntryPoint) -> bool:
    return point.group.startswith("segctl.")


def take(snapshot: Snapshot, run: Run) -> None:
    """Copies the code into the run's directory, and makes sure that Python then finds it there.

    Raises:
        LaunchError: A file cannot be copied, or a module would still be imported from elsewhere.
    """
    if not snapshot.trees:
        return
    if os.pathsep in str(run.path):
        raise LaunchError(
            f"Code cannot be imported from a folder with {os.pathsep!r} in its name, such as {run.path}.",
            "Choose another one with --runs-dir, or leave --snapshot out.",
        )
    try:
        for tree in snapshot.trees:
            tree.copy_to(run.code / tree.name)
        for name, text in snapshot.metadata.items():
            file = run.code / _METADATA / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    except (OSError, shutil.Error) as error:
        what = getattr(error, "filename", None) or run.code
        raise LaunchError(
            f"The code cannot be frozen: {what}: {getattr(error, 'strerror', None) or error}.",
            "Check that it can be read and that the disk of the runs has room, or leave --snapshot out.",
        ) from error
    _verify(snapshot, run)


def _verify(snapshot: Snapshot, run: Run) -> None:
    own = [str(run.path / entry) for entry in snapshot.python_path]
    path = os.pathsep.join([*own, *filter(None, [os.environ.get("PYTHONPATH")])])
    seen = probe(snapshot.modules, {**os.environ, "PYTHONPATH": path})
    code = run.code.resolve()
    for name in snapshot.modules:
        folders = seen.folders.get(name, ())
        if not folders or code not in folders[0].parents:
            place = folders[0] if folders else "nowhere"
            raise LaunchError(
                f"{name} cannot be frozen: Python would import it from {place} all the same.",
                "Its installation goes before PYTHONPATH. Install it without -e, or leave --snapshot out.",
            )


def preflight(run: Run, *, processes: int, from_checkpoint: bool, checkpoint: Path | None) -> tuple[str, ...]:
    """Tries the configuration of a run that has a snapshot, with the code that is in there; as `segctl.bridge` does.

    Args:
        processes: How many will train together.
        from_checkpoint: The training goes on from a checkpoint.
        checkpoint: What is evaluated; None for a training.

    Raises:
        SegctlError: It would fail.
    """
    given = {
        "config": str(run.config_file),
        "processes": processes,
        "from_checkpoint": from_checkpoint,
        "checkpoint": None if checkpoint is None else str(checkpoint),
    }
    answer = _python(_TRY, given, with_snapshot(os.environ, run), f"cannot try the frozen code of {run.id}")
    if "message" in answer:
        raise LaunchError(answer["message"], answer["hint"])
    return (f"The job runs the code that was frozen in {run.code}.", *answer["notices"])
