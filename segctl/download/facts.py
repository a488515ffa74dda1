"""What is wanted and what is there: plugins and the disk, read for `segctl.download.plan`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segctl import registry
from segctl.download.login import known_login
from segctl.download.plan import Seen, Wanted, place_key
from segctl.download.unpack import WORK, marker
from segctl.errors import ConfigError, DataError, PluginError, SegctlError, listing
from segctl.plugin import Archive
from segctl.runs.files import write_json

__all__ = ["begin", "data_root_of", "look", "names_of", "offered", "unwritable", "wanted"]


def data_root_of(given: str | os.PathLike[str] | None) -> Path:
    """The folder of the data sets: the given one, else ``$SEGCTL_DATA``, else ``data``; absolute."""
    return Path(os.path.expanduser(given or os.environ.get("SEGCTL_DATA") or "data")).absolute()


def offered() -> tuple[list[str], list[str]]:
    """The data sets that declare archives, each once, by the name that tells it apart; and what was left out, why."""
    found, left_out = [], []
    known = registry.discover("datasets")
    unique = {entry.name for entry in known if sum(other.name == entry.name for other in known) == 1}
    for entry in known:
        if registry.alias_of(entry, known):
            continue
        name = entry.name if entry.name in unique else entry.qualified
        try:
            if getattr(entry.load(), "archives", ()):
                found.append(name)
        except PluginError as error:
            left_out.append(f"{name} is left out: {error.message}")
    return found, left_out


def wanted(name: str, data_root: Path) -> Wanted:
    """What a data set is made of, by its plugin.

    Raises:
        PluginError: There is no such data set, it cannot be imported, or its declarations are not acceptable.
        DataError: It declares nothing that could be downloaded.
    """
    entry = registry.find("datasets", name)
    factory = entry.load()
    archives = getattr(factory, "archives", ())
    if not isinstance(archives, (tuple, list)) or not all(isinstance(each, Archive) for each in archives):
        raise PluginError(f"The archives of {entry} are not a tuple of segctl.plugin.Archive.")
    layout = getattr(factory, "layout", ())
    layout = tuple(layout) if isinstance(layout, (tuple, list)) else ()  # a property: known only once it is open
    homepage = getattr(factory, "homepage", "")
    if not archives and (layout or not isinstance(getattr(factory, "classes", None), tuple)):
        where = f" The data come from {homepage}." if isinstance(homepage, str) and homepage else ""
        raise DataError(f"Data set {entry.name!r} declares nothing to download.", f"It reads files of yours.{where}")
    for archive in archives:
        known_login(archive)
        _refuse_other_paths(entry, archive)
    return Wanted(
        name=name,
        plugin=f"{entry.module}.{entry.attribute}",
        root=_root(entry, factory, data_root),
        layout=layout,
        archives=tuple(archives),
        prepare=getattr(factory, "prepare", None),
    )


def _refuse_other_paths(entry: registry.PluginEntry, archive: Archive) -> None:
    inside = all(not os.path.isabs(path) and ".." not in Path(path).parts for path in (archive.folder, archive.file))
    if not inside or "/" in archive.file:
        raise PluginError(f"The archive {archive.file!r} of {entry} does not stay below the data set's folder.")


def _root(entry: registry.PluginEntry, factory: Any, data_root: Path) -> Path:
    try:
        if getattr(factory, "layout", ()):
            return registry.dataset_root(entry, factory, data_root)
    except DataError:
        pass
    return registry.dataset_home(entry, factory, data_root)


def look(each: Wanted) -> Seen:
    """What is on disk of a data set. Raises DataError where its folder is something else."""
    if os.path.lexists(each.root) and not each.root.is_dir():
        raise DataError(f"{each.root} is not a folder.", "Move it away, or name another folder with --data-root.")
    keys = {place_key(archive): archive for archive in each.archives}
    work = each.root / WORK
    try:
        left = os.listdir(work)
    except OSError:
        left = []
    unfinished = {key for key in keys if any(name.startswith((f"{key}-", f"{key}.ready")) for name in left)}
    declared = {key for key, archive in keys.items() if archive.provides}
    provided = {key for key in declared if all((each.root / path).exists() for path in keys[key].provides)}
    return Seen(
        layout=bool(each.layout) and all((each.root / path).exists() for path in each.layout),
        begun=_begun(each).is_file(),
        marked=frozenset(key for key in keys if marker(each.root, key).is_file()),
        unfinished=frozenset(unfinished),
        provided=frozenset(provided),
        declared=frozenset(declared),
    )


def begin(each: Wanted) -> None:
    """Notes that what comes to be in a data set's folder is segctl's doing. Raises SegctlError where it cannot."""
    try:
        _begun(each).parent.mkdir(parents=True, exist_ok=True)
        if not _begun(each).is_file():
            write_json(_begun(each), {"plugin": each.plugin})
    except OSError as error:
        raise unwritable(each.root, error) from error


def unwritable(folder: Path, error: OSError) -> SegctlError:
    reason = error.strerror or str(error)
    return DataError(f"{folder} cannot be written: {reason}.", "Name another folder with --data-root or $SEGCTL_DATA.")


def _begun(each: Wanted) -> Path:
    return each.root / WORK / f"{each.plugin}.json"


def names_of(given: Sequence[str], *, everything: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The data sets that are meant, and what should be said about those that were left out.

    Raises:
        ConfigError: None is named, or some are named beside all.
    """
    if everything and given:
        raise ConfigError(f"Both {listing(given)} and --all were given.", "Give one.")
    if everything:
        found, left_out = offered()
        return tuple(found), tuple(left_out)
    if not given:
        found, _ = offered()
        raise ConfigError("No data set was named.", f"There are {listing(found)}; --all takes all of them.")
    return tuple(dict.fromkeys(given)), ()
