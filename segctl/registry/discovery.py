"""Which plugins are installed. Nothing is imported to find them: a plugin's own module is, by `PluginEntry.load` alone.

The `entrypoints` package reads the metadata; what it leaves open is decided in `discover`.
"""

from __future__ import annotations

import configparser
import logging
import os
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import entrypoints

from segctl.errors import PluginError, did_you_mean, listing
from segctl.registry.entry import KIND_NAMES, KINDS, PluginEntry

_looked: dict[tuple[str, ...], tuple[PluginEntry, ...]] | None = None


@contextmanager
def one_look() -> Iterator[None]:
    """Within this, what is installed is looked up once, for who asks a thousand times: each look reads many files."""
    global _looked
    before, _looked = _looked, {} if _looked is None else _looked
    try:
        yield
    finally:
        _looked = before


def discover(kind: str) -> tuple[PluginEntry, ...]:
    """Every plugin of a kind that is installed, sorted by name and distribution. Imports none of them.

    A distribution that is seen twice on the import path (an editable installation beside its source tree, an older
    copy in another folder) counts once, and the first shadows the others, as it does for imports. Names are compared
    normalised.
    """
    if _looked is None:
        return _discover(kind)
    place = (kind, *sys.path)
    if place not in _looked:
        _looked[place] = _discover(kind)
    return _looked[place]


def _discover(kind: str) -> tuple[PluginEntry, ...]:
    found: dict[str, tuple[str, dict[str, str]]] = {}
    for parser, given in _metadata():
        name, version = _normalised(given.name), _version(given.version)
        if name in found:
            first_version, entries = found[name]
            found[name] = (first_version or version, entries)
            continue
        group = f"segctl.{kind}"
        entries = dict(parser.items(group, raw=True)) if parser.has_section(group) else {}
        found[name] = (version, entries)
    plugins = [
        PluginEntry(kind, name, distribution, version or _installed_version(distribution), (target or "").strip())
        for distribution, (version, entries) in found.items()
        for name, target in entries.items()
    ]
    return tuple(sorted(plugins, key=lambda plugin: (plugin.name, plugin.distribution)))


def _metadata() -> Iterator[tuple[configparser.ConfigParser, Any]]:
    for folder in dict.fromkeys(map(os.fspath, sys.path)):
        try:
            # Folder by folder and all of it: what is a duplicate is decided on normalised names, by `discover`.
            yield from list(entrypoints.iter_files_distros([folder], repeated_distro="all"))  # type: ignore[no-untyped-call]
        except (configparser.Error, ValueError, OSError, zipfile.BadZipFile):
            yield from _metadata_one_by_one(Path(folder))


def _metadata_one_by_one(folder: Path) -> Iterator[tuple[configparser.ConfigParser, Any]]:
    """As `entrypoints` reads them, but so that a damaged file costs the plugins of its own distribution only."""
    for file in sorted([*folder.glob("*.dist-info/entry_points.txt"), *folder.glob("*.egg-info/entry_points.txt")]):
        parser = entrypoints.CaseSensitiveConfigParser(delimiters=("=",), interpolation=None)
        try:
            parser.read([str(file)], encoding="utf-8")
        except (configparser.Error, ValueError) as error:
            reason = " ".join(str(error).split())
            logging.getLogger(__name__).warning("Left out the plugins of %s: %s", file.parent.stem, reason)
            continue
        yield parser, entrypoints.Distribution.from_name_version(file.parent.stem)  # type: ignore[no-untyped-call]


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _version(text: str | None) -> str:
    # An .egg-info folder's name goes on with the Python version: "1.0-py3.11".
    return re.sub(r"-py\d.*$", "", text or "")


def _installed_version(distribution: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except (metadata.PackageNotFoundError, OSError):
        return ""


def alias_of(entry: PluginEntry, known: Sequence[PluginEntry]) -> str:
    """The name of the same plugin, among `known`, that its function or class has; empty where `entry` is that one.

    A class ``SBUShadow`` has the name ``sbu_shadow``.
    """
    own = (_letters(entry.attribute), entry.distribution, entry.target)
    found = next((one.name for one in known if (_letters(one.name), one.distribution, one.target) == own), "")
    return found if found != entry.name else ""


def _letters(name: str) -> str:
    return name.replace("_", "").casefold()


def names(kind: str) -> list[str]:
    """Each installed plugin of a kind, for messages: once, if it has several names."""
    known = discover(kind)
    return sorted({entry.name for entry in known if not alias_of(entry, known)})


def find(kind: str, name: str) -> PluginEntry:
    """The plugin that `name` means.

    Args:
        kind: One of `KINDS`.
        name: ``"unet"``, or ``"distribution:unet"`` where several distributions offer it.

    Raises:
        PluginError: There is none, or more than one of that name.
    """
    known = discover(kind)
    distribution, _, bare = name.rpartition(":")
    matches = [
        plugin
        for plugin in known
        if plugin.name == bare and (not distribution or plugin.distribution == _normalised(distribution))
    ]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        raise _not_found(kind, name, known)
    raise PluginError(
        f"The {KIND_NAMES[kind]} {name!r} is offered by {listing(plugin.distribution for plugin in matches)}.",
        f"Say which: {' or '.join(plugin.qualified for plugin in matches)}.",
    )


def _not_found(kind: str, name: str, known: Sequence[PluginEntry]) -> PluginError:
    near = did_you_mean(name, {plugin.qualified if ":" in name else plugin.name for plugin in known})
    elsewhere = [KIND_NAMES[other] for other in KINDS if other != kind and any(p.name == name for p in discover(other))]
    message = f"There is no {KIND_NAMES[kind]} {name!r}"
    message += f", but a {elsewhere[0]} of that name. {near}" if elsewhere else f". {near}"
    hint = f"Installed are {listing(names(kind))}." if known else "None are installed."
    return PluginError(message.strip(), hint)
