"""Finds plugins by name, among those that installed distributions offer through entry points, and makes what they
describe.

Finding imports nothing: a plugin's own module is imported by `PluginEntry.load`, and only there. The `entrypoints`
package reads the metadata; what it leaves open is decided in `discover`.
"""

from __future__ import annotations

import configparser
import logging
import os
import re
import sys
import traceback
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import entrypoints

from segctl.errors import DataError, PluginError, SegctlError, did_you_mean, listing

if TYPE_CHECKING:
    from segctl.config.schema import Plugin

__all__ = [
    "KINDS",
    "KIND_NAMES",
    "PluginEntry",
    "alias_of",
    "create_loss",
    "create_model",
    "dataset_home",
    "dataset_root",
    "discover",
    "find",
    "names",
    "one_look",
    "one_opening",
    "open_dataset",
    "resolve_plugin",
    "where",
]

KINDS = ("models", "datasets", "losses")
KIND_NAMES = {"models": "model", "datasets": "data set", "losses": "loss"}
_WHERE = {"models": "model", "datasets": "dataset", "losses": "loss"}

_TARGET = re.compile(r"(?P<module>\w+(?:\.\w+)*)\s*:\s*(?P<attribute>\w+(?:\.\w+)*)\s*(?:\[.*\])?")


def where(kind: str) -> str:
    """The section of the configuration that names a plugin of this kind: ``"dataset"`` for ``"datasets"``."""
    return _WHERE[kind]


@dataclass(frozen=True)
class PluginEntry:
    """One name that one distribution offers.

    Attributes:
        kind: One of `KINDS`.
        distribution: The distribution's name, normalised: lower case, with hyphens.
        version: Empty where its metadata do not say.
        target: What the entry point names, ``"module:attribute"``.
    """

    kind: str
    name: str
    distribution: str
    version: str
    target: str

    @property
    def qualified(self) -> str:
        """The name that is unique where two distributions offer the same."""
        return f"{self.distribution}:{self.name}"

    @property
    def module(self) -> str:
        """Empty where `target` is not of the form it must have."""
        match = _TARGET.fullmatch(self.target)
        return match["module"] if match else ""

    @property
    def attribute(self) -> str:
        match = _TARGET.fullmatch(self.target)
        return match["attribute"] if match else ""

    def __str__(self) -> str:
        return f"the {KIND_NAMES[self.kind]} {self.name!r} of {self.distribution} {self.version}".rstrip()

    def load(self) -> Callable[..., Any]:
        """Imports the plugin.

        Raises:
            PluginError: Its module cannot be imported, or does not hold what the entry point names.
        """
        if not self.module:
            raise PluginError(f"The entry point of {self}, {self.target!r}, is not of the form 'module:function'.")
        try:
            found: Any = import_module(self.module)
            for part in self.attribute.split("."):
                found = getattr(found, part)
        except (Exception, SystemExit) as error:  # whatever a stranger's module does when it is imported
            raise PluginError(
                f"Cannot import {self}: {type(error).__name__}: {error}.", self._way_out(error)
            ) from error
        if not callable(found):
            raise PluginError(
                f"{self.target}, which is {self}, is of type {type(found).__name__}, not a function or class."
            )
        factory: Callable[..., Any] = found
        return factory

    def _way_out(self, error: BaseException) -> str:
        missing = (error.name or "").split(".")[0] if isinstance(error, ModuleNotFoundError) else ""
        if missing and missing != self.module.split(".")[0]:
            return f"Install what provides {missing!r} into this environment."
        return f"Reinstall or update {self.distribution}, or report this to its authors."


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


def resolve_plugin(kind: str, plugin: Plugin, *, texts: dict[str, str] | None = None) -> Plugin:
    """`plugin` with its options checked and completed with their defaults.

    Args:
        texts: See `segctl.options.validate`.

    Raises:
        PluginError: There is no such plugin, or it cannot be imported.
        ConfigError: An option is not acceptable.
    """
    from segctl.options import validate

    factory = find(kind, plugin.name).load()
    options = validate(factory, plugin.options, where=where(kind), name=plugin.name, texts=texts)
    return plugin.model_copy(update={"options": options})


def create_model(plugin: Plugin, num_classes: int) -> Any:
    """The ``nn.Module`` that a configuration's model stands for, with `num_classes` outputs per pixel, on the CPU.

    Raises:
        PluginError: The plugin cannot be found, imported or made.
        ConfigError: An option is not acceptable.
    """
    entry, factory, options = _ready("models", plugin)
    return _made(entry, lambda: factory(num_classes, **options))


def create_loss(
    plugin: Plugin, *, num_classes: int, ignore_index: int, class_pixels: Callable[[], Sequence[int]]
) -> Any:
    """The loss that a configuration names: a callable on ``(outputs, target)``.

    Args:
        class_pixels: Counts the pixels of each class in the training masks. A loss that takes it decides when to call
            it.

    Raises:
        PluginError: The plugin cannot be found, imported or made.
        ConfigError: An option is not acceptable.
    """
    from segctl.options import accepted_context

    facts: dict[str, Any] = {"num_classes": num_classes, "ignore_index": ignore_index, "class_pixels": class_pixels}

    def create(name: str, options: Mapping[str, Any] | None = None) -> Any:
        from segctl.config.schema import Plugin

        return create_loss(Plugin(name=name, options=dict(options or {})), **facts)

    entry, factory, options = _ready("losses", plugin)
    offered = {**facts, "create_loss": create}
    context = {name: offered[name] for name in accepted_context(factory, "loss")}
    return _made(entry, lambda: factory(**context, **options))


_opened: dict[str, Any] | None = None


@contextmanager
def one_opening() -> Iterator[None]:
    """Within this, each split is opened once however often it is asked for: to check it, to take note of its files."""
    global _opened
    before, _opened = _opened, {} if _opened is None else _opened
    try:
        yield
    finally:
        _opened = before


def open_dataset(plugin: Plugin, data_root: str | Path, split: str) -> Any:
    """The split of a data set, opened.

    Args:
        data_root: The folder that holds the data sets; this one's own is ``<data_root>/<name>``, or the one that its
            `DatasetInfo.home` names, or `data_root` itself: the first where what its `DatasetInfo.layout` names lies.

    Raises:
        DataError: The data are in none of these places.
        PluginError: The plugin cannot be found, imported or made.
        ConfigError: An option is not acceptable.
    """
    if _opened is None:
        return _open_dataset(plugin, data_root, split)
    key = repr((plugin.name, sorted(plugin.options.items()), str(data_root), split))
    if key not in _opened:
        _opened[key] = _open_dataset(plugin, data_root, split)
    return _opened[key]


def _open_dataset(plugin: Plugin, data_root: str | Path, split: str) -> Any:
    entry, factory, options = _ready("datasets", plugin)
    root = dataset_root(entry, factory, data_root)
    return _made(entry, lambda: factory(root, split, **options))


def dataset_home(entry: PluginEntry, factory: Any, data_root: str | Path) -> Path:
    """Where a data set is put below the folder of the data sets, whether it is there or not."""
    home = getattr(factory, "home", "")
    own = home if isinstance(home, str) and home else entry.name
    return Path(os.path.expanduser(data_root)).absolute() / own


def dataset_root(entry: PluginEntry, factory: Any, data_root: str | Path) -> Path:
    """The folder that a data set is to read: see `open_dataset`.

    Raises:
        DataError: What the data set's layout names is in none of these places.
    """
    data_root = Path(os.path.expanduser(data_root)).absolute()
    own = dataset_home(entry, factory, data_root)
    layout = getattr(factory, "layout", ())
    if not isinstance(layout, tuple | list):  # a property: known only once it is open
        layout = ()
    candidates = list(dict.fromkeys((own, data_root / entry.name, data_root)))
    missing = [[part for part in layout if not (root / part).exists()] for root in candidates]
    for root, parts in zip(candidates, missing, strict=True):
        if not parts:
            return root
    homepage = getattr(factory, "homepage", "")
    source = f" The data come from {homepage}." if isinstance(homepage, str) and homepage else ""
    raise DataError(
        f"Data set {entry.name!r}: {_what_is_missing(candidates, missing, layout)}.",
        f"Name the folder that holds it with --data-root or $SEGCTL_DATA.{source}",
    )


def _what_is_missing(candidates: list[Path], missing: list[list[str]], layout: Sequence[str]) -> str:
    own, data_root = candidates[0], candidates[-1]
    if not data_root.is_dir():
        return f"there is no folder {data_root}"
    for root, parts in zip(candidates, missing, strict=True):
        if len(parts) < len(layout):
            return f"it is incomplete in {root}, where there is no {' and no '.join(parts)}"
    return f"it is neither in {own} nor in {data_root}, where there should be {listing(layout)}"


def _ready(kind: str, plugin: Plugin) -> tuple[PluginEntry, Callable[..., Any], dict[str, Any]]:
    from segctl.options import arguments

    entry = find(kind, plugin.name)
    factory = entry.load()
    return entry, factory, arguments(factory, plugin.options, where=where(kind), name=plugin.name)


def _made(entry: PluginEntry, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except SegctlError:
        raise
    except Exception as error:
        _blame(entry, error)


def _blame(entry: PluginEntry, error: Exception) -> NoReturn:
    last = traceback.extract_tb(error.__traceback__)[-1]
    raise PluginError(
        f"Cannot make {entry}: {type(error).__name__}: {error} ({last.filename}, line {last.lineno}).",
        f"If its options are as its documentation wants them, report this to the authors of {entry.distribution}.",
    ) from error
