"""Whether the plugins of other distributions can be imported: tried in a process of its own, and remembered.

`segctl plugins list` must be quick, must not load torch and must not be broken by a stranger's module; yet what a
module does when it is imported is known only by importing it. So that is done once for each state of the environment,
in another process. The plugins that come with segctl are left out: its own tests import them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.machinery import PathFinder
from pathlib import Path

from segctl.errors import PluginError
from segctl.registry import PluginEntry
from segctl.runs.files import cache_folder, read_json, write_json

__all__ = ["failures"]

_TIME_LIMIT = 120.0  # seconds; torch from a cold network disk takes most of a minute
_CHILD = (
    "import json, sys; given = json.load(sys.stdin); sys.path[:] = given['path']; "
    "from segctl.import_check import _import_all; _import_all(given['entries'], sys.argv[1])"
)


def failures(entries: Iterable[PluginEntry]) -> dict[PluginEntry, str]:
    """Why plugins cannot be imported, in a few words; those that can are left out.

    What was found is kept in ``$XDG_CACHE_HOME/segctl`` (default ``~/.cache/segctl``) until a distribution is
    installed or removed, or a module beside the plugin's own changes.
    """
    foreign = {_key(entry): entry for entry in entries if entry.distribution != "segctl"}
    if not foreign:
        return {}
    cache = _cache_file()
    remembered = {key: reason for key, reason in (read_json(cache) or {}).items() if isinstance(reason, str)}
    unknown = [entry for key, entry in foreign.items() if key not in remembered]
    found = dict(zip(map(_key, unknown), _tried(unknown), strict=True))
    outcomes = {key: found[key] if key in found else remembered[key] for key in foreign}
    if unknown:
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, no more
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_json(cache, outcomes)
    return {foreign[key]: reason for key, reason in outcomes.items() if reason}


def _cache_file() -> Path:
    return cache_folder() / f"imports-{_digest(sys.prefix, sys.executable)}.json"


def _key(entry: PluginEntry) -> str:
    """Equal as long as an import of the plugin, tried again, would find the same files."""
    folders = [(folder, _modified(Path(folder))) for folder in sys.path if folder]
    return f"{entry.kind}/{entry.qualified}/{_digest(entry.version, entry.target, folders, _package_state(entry))}"


def _package_state(entry: PluginEntry) -> list[tuple[str, int]]:
    folder = None
    for part in entry.module.split(".")[:-1] or [entry.module]:
        name = part if folder is None else f"{folder[0]}.{part}"
        with contextlib.suppress(ImportError, ValueError, AttributeError):
            spec = PathFinder.find_spec(name, None if folder is None else folder[1])
            if spec and spec.submodule_search_locations:
                folder = (name, list(spec.submodule_search_locations))
            elif spec and spec.origin:
                return [(spec.origin, _modified(Path(spec.origin)))]
    return [
        (str(file), _modified(file)) for place in (folder[1] if folder else ()) for file in Path(place).glob("*.py")
    ]


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _digest(*values: object) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:16]


def _tried(entries: Sequence[PluginEntry]) -> list[str]:
    """For each entry why it cannot be imported, or an empty string."""
    reasons: list[str] = []
    while len(reasons) < len(entries):
        outcomes, end = _try_in_a_process(entries[len(reasons) :])
        reasons += outcomes
        if len(reasons) < len(entries):  # the one it was importing is what ended it
            reasons.append(end)
    return reasons


def _try_in_a_process(entries: Sequence[PluginEntry]) -> tuple[list[str], str]:
    with tempfile.TemporaryDirectory(prefix="segctl-") as folder:
        outcomes = Path(folder, "outcomes")
        given = json.dumps({"path": sys.path, "entries": [asdict(entry) for entry in entries]})
        try:
            done = subprocess.run(
                [sys.executable, "-c", _CHILD, str(outcomes)],
                input=given.encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_TIME_LIMIT,
                check=False,
            )
            end = f"importing it ends the interpreter (exit code {done.returncode})"
        except subprocess.TimeoutExpired:
            end = f"importing it takes more than {_TIME_LIMIT:.0f} seconds"
        if not outcomes.is_file():  # the process did not come as far as the first plugin: nothing is known of any
            return [""] * len(entries), ""
        lines = outcomes.read_text(encoding="utf-8").splitlines()
    return [str(json.loads(line)) for line in lines], end


def _import_all(entries: Sequence[dict[str, str]], outcomes: str) -> None:
    # Line by line and flushed, so that what was found survives an import that ends the process.
    with open(outcomes, "w", encoding="utf-8") as file:
        for entry in entries:
            file.write(json.dumps(_reason(PluginEntry(**entry))) + "\n")
            file.flush()


def _reason(entry: PluginEntry) -> str:
    try:
        entry.load()
    except PluginError as error:
        cause = error.__cause__
        text = error.message if cause is None else f"{type(cause).__name__}: {cause}"
        return " ".join(text.split())
    return ""
