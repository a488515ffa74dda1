"""Where a run comes from: what `run.json` records so that a result can be explained, and repeated, years later."""

from __future__ import annotations

import getpass
import itertools
import os
import re
import socket
import sys
import time
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segctl import data_record, local_code
from segctl.runs import code, module_files, repository
from segctl.runs.files import replacing
from segctl.runs.run import Run

if TYPE_CHECKING:
    from segctl.config.schema import Config

_SECONDS = 15.0  # for all repositories together
_NAMED = 200  # untracked files that are named
_HERE = "working directory"


@dataclass(frozen=True)
class Origin:
    """What is known of a run before its directory is made.

    Attributes:
        record: run.json but for the id.
        patches: Content of files in ``RUN/changes``: how each repository differs from its commit.
    """

    record: Mapping[str, Any]
    patches: Mapping[str, bytes]

    def keep_patches(self, run: Run) -> None:
        """Raises OSError where the run's directory cannot be written."""
        if self.patches:
            run.changes.mkdir(exist_ok=True)
        for name, content in self.patches.items():
            with replacing(run.changes / name) as file:
                file.write(content)


def trace(kind: str, config: Config, *, argv: Iterable[str] | None = None) -> Origin:
    """Gathers where a run of `kind` (``train``, ``eval``) comes from, once its plugins have been imported."""
    record = {
        "kind": kind,
        **chosen(config),
        "data": data(kind, config),
        "created": time.time(),
        "argv": list(sys.argv if argv is None else argv),
        "cwd": str(Path.cwd()),
        "host": socket.gethostname(),
        "user": user(),
        "python": sys.executable,
        "segctl": str(code.segctl_folder()),
        "versions": code.versions(),
    }
    working_copies = local_code.loaded()
    states, patches = _states({_HERE: Path.cwd(), **working_copies})
    return Origin({**record, "repositories": states, "modules": _modules(working_copies)}, patches)


def chosen(config: Config) -> dict[str, Any]:
    """What a run is, in the words of its configuration: the part of run.json in which runs of one sweep differ."""
    return {
        "name": config.name,
        "model": config.model.name,
        "backbone": config.model.options.get("backbone"),
        "dataset": config.dataset.name,
        "plugins": plugin_distributions(config),
    }


def data(kind: str, config: Config) -> dict[str, Any]:
    """Digests of the splits that a run of `kind` reads, by split; see `segctl.data_record`.

    Raises:
        SegctlError: A split cannot be opened.
    """
    from segctl.plugin import dataset_info
    from segctl.registry import find, open_dataset

    facts = dataset_info(find("datasets", config.dataset.name).load())
    evaluated = config.eval.split or facts.eval_split
    splits = dict.fromkeys((facts.train_split, evaluated) if kind == "train" else (evaluated,))
    opened = {split: open_dataset(config.dataset, config.data_root, split) for split in splits}
    return {split: data_record.digest(dataset, config.dataset.options) for split, dataset in opened.items()}


def _modules(folders: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """Digests of modules that are working copies: of what git does not track there is no other trace."""
    deadline = time.monotonic() + _SECONDS
    digests = {name: module_files.digest(name, folder, deadline) for name, folder in folders.items()}
    return {name: {"folder": str(folders[name]), "sha256": found} for name, found in digests.items() if found}


def _states(folders: Mapping[str, Path]) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Each repository that one of `folders` lies in, as run.json has it; and the files that go into RUN/changes."""
    states: list[dict[str, Any]] = []
    patches: dict[str, bytes] = {}
    for state, holds in repositories(folders, time.monotonic() + _SECONDS):
        one = {**state.as_record(), "holds": holds}
        if state.status is not None and (state.status.dirty or state.status.untracked):
            file = _file_name(state.root, patches)
            patches[file] = _patch(state)
            one["diff"] = f"changes/{file}"
        states.append(one)
    return states, patches


def repositories(folders: Mapping[str, Path], deadline: float) -> list[tuple[repository.State, list[str]]]:
    """The state of each repository that one of `folders` lies in, with the names of those that do.

    Args:
        folders: By name.
        deadline: On the monotonic clock.
    """
    holds: dict[Path, list[str]] = {}
    for name, folder in folders.items():
        holds.setdefault(repository.root_of(folder) or folder, []).append(name)
    return [(repository.look(root, deadline), names) for root, names in holds.items()]


def _file_name(root: Path, taken: Container[str]) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", root.name).strip("-.") or "repository"
    names = (
        f"{plain}{suffix}.diff" for suffix in itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    )
    return next(name for name in names if name not in taken)


def _patch(state: repository.State) -> bytes:
    """A patch that git can apply, below some lines that git passes over."""
    assert state.status is not None
    untracked = state.status.untracked
    lines = [f"repository {state.root}", f"commit {state.status.commit}, branch {state.status.branch}"]
    if untracked:
        lines.append(f"{len(untracked)} untracked files or folders, whose content is not in here:")
        lines += [f"  {name}" for name in untracked[:_NAMED]]
    if len(untracked) > _NAMED:
        lines.append(f"  and {len(untracked) - _NAMED} more")
    if state.error:
        lines.append(f"the patch is not whole: {state.error}")
    if state.cut:
        lines.append(f"the patch is cut after {repository.DIFF_LIMIT} bytes")
    head = "".join(f"# {line}\n" for line in lines)
    return os.fsencode(head) + state.diff


def user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return str(os.getuid())


def plugin_distributions(config: Config) -> dict[str, dict[str, str]]:
    """Name, distribution and version of each plugin that `config` names, and what code it points to."""
    from segctl.registry import find

    named = {"models": config.model, "datasets": config.dataset, **({"losses": config.loss} if config.loss else {})}
    entries = {kind: find(kind, plugin.name) for kind, plugin in named.items()}
    return {
        kind: {"name": entry.name, "distribution": entry.distribution, "version": entry.version, "target": entry.target}
        for kind, entry in entries.items()
    }
