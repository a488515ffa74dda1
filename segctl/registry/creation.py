"""Makes what a configuration names: a model, a loss, an open data set."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from segctl.errors import DataError, PluginError, SegctlError, listing
from segctl.registry.discovery import find
from segctl.registry.entry import PluginEntry, where

if TYPE_CHECKING:
    from segctl.config.schema import Plugin


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
    raise DataError(
        f"Data set {entry.name!r}: {_what_is_missing(candidates, missing, layout)}.",
        f"Name the folder that holds it with --data-root or $SEGCTL_DATA.{_where_from(entry, factory)}",
    )


def _where_from(entry: PluginEntry, factory: Any) -> str:
    if isinstance(archives := getattr(factory, "archives", ()), tuple) and archives:
        return f" 'segctl download {entry.name}' fetches it."
    homepage = getattr(factory, "homepage", "")
    return f" The data come from {homepage}." if isinstance(homepage, str) and homepage else ""


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
