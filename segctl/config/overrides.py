"""What flags and ``--set`` change in a configuration that is still a tree of plain data. Pure: no file is read here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from segctl.config.yaml_core import scalar
from segctl.errors import ConfigError

__all__ = ["PLUGIN_SECTIONS", "Override", "apply", "from_flags", "from_sets", "spread"]

PLUGIN_SECTIONS = {"model": "models", "dataset": "datasets", "loss": "losses"}
Tree = dict[str, Any]
Key = tuple[str, ...]


@dataclass(frozen=True)
class Override:
    """One value for one key.

    Attributes:
        key: Its path, ``("train", "epochs")``.
        value: What the text means in YAML.
        text: What was typed, where it was typed: what counts if the setting turns out to be a string.
    """

    key: Key
    value: Any
    text: str | None = None


def from_flags(flags: Mapping[str, Any]) -> list[Override]:
    """Overrides for values by dotted path. Strings are read as on the command line, other values taken as they are."""
    return [_override(path, value) for path, value in flags.items()]


def from_sets(sets: Iterable[str]) -> list[Override]:
    """Overrides for arguments of ``--set``, ``"a.b=value"``. A value is plain, or a list or mapping in YAML's notation.

    Raises:
        ConfigError: One is not of that form.
    """
    overrides = []
    for text in sets:
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"--set {text!r} is not of the form KEY=VALUE.", "An example: --set train.epochs=5")
        overrides.append(_override(path.strip(), value))
    return overrides


def _override(path: str, value: Any) -> Override:
    key = tuple(path.split("."))
    if not all(key):
        raise ConfigError(f"{path!r} is not the path of a setting.", "An example: train.epochs")
    text = value if isinstance(value, str) else None
    value = value if text is None else scalar(text)
    if len(key) == 1 and path in PLUGIN_SECTIONS and not isinstance(value, dict) and value is not None:
        key = (path, "name")  # `--model fcn` names a plugin; it does not replace the whole section
    return Override(key, value, text)


def spread(overrides: Iterable[Override], section: str) -> list[Override]:
    """The same with a whole `section` taken as its settings, one by one, which leave the others as they are."""
    found = []
    for override in overrides:
        if override.key == (section,) and isinstance(override.value, dict):
            found += [Override((section, str(name)), value) for name, value in override.value.items()]
        else:
            found.append(override)
    return found


def apply(
    tree: Tree, overrides: Iterable[Override], same: Callable[[str, str, str], bool], given: dict[Key, str | None]
) -> None:
    """Writes one layer of overrides into `tree`, a later one over an earlier.

    Two settings are more than a value:

    - Naming another plugin (``model.name``) drops the options of the one before, which mean nothing to the new one.
      Options in the same layer are applied after it, whatever their order.
    - ``train.epochs`` takes back a ``train.steps`` from a lower layer, which would otherwise override it.

    Args:
        same: Whether two names, of a plugin section's kind, mean the same plugin: ``same("models", "fcn",
            "segctl:fcn")``.
        given: Takes each key and what was typed for it, for values that turn out to be strings.

    Raises:
        ConfigError: A key goes through something that is not a section, or both epochs and steps are given.
    """
    layer = sorted(overrides, key=lambda override: not _names_plugin(override.key))
    values = {override.key: override.value for override in layer}
    if values.get(("train", "epochs")) is not None:
        if values.get(("train", "steps")) is not None:
            raise ConfigError(
                "train.epochs and train.steps are both given, but each says how long to train.", "Give one."
            )
        layer.insert(0, Override(("train", "steps"), None))
    for override in layer:
        _write(tree, override, same)
        for key in [key for key in given if key[: len(override.key)] == override.key]:
            del given[key]
        given[override.key] = override.text


def _names_plugin(key: Key) -> bool:
    return key[0] in PLUGIN_SECTIONS and (len(key) == 1 or key[1:] == ("name",))


def _write(tree: Tree, override: Override, same: Callable[[str, str, str], bool]) -> None:
    *sections, last = override.key
    if last == "name" and len(sections) == 1 and (kind := PLUGIN_SECTIONS.get(sections[0])):
        before = tree.get(sections[0])
        before = before.get("name") if isinstance(before, dict) else before
        if before is not None and not same(kind, str(before), str(override.value)):
            tree[sections[0]] = {}
    node = tree
    for depth, section in enumerate(sections):
        below = node.get(section)
        if depth == 0 and section in PLUGIN_SECTIONS and isinstance(below, str):
            below = {"name": below}
        if below is None:
            below = {}
        if not isinstance(below, dict):
            raise ConfigError(
                f"{'.'.join(override.key)}: {'.'.join(sections[: depth + 1])} is a single value, with nothing below it."
            )
        node[section] = node = below
    node[last] = override.value
