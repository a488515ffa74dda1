"""YAML as segctl reads and writes it: the core schema of YAML 1.2.

PyYAML follows YAML 1.1, in which ``1e-3`` is a string, ``off`` and ``no`` are false, ``010`` is eight, ``1:30`` is
ninety and ``2024-01-01`` is a date. Here ``1e-3`` is a number and the others are what they look like: strings, and
the decimal 10. A key that occurs twice is refused, where PyYAML silently keeps the last. Source: yaml.org/spec/1.2.2,
section 10.3.2.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from segctl.errors import ConfigError

__all__ = ["document", "parse", "read", "scalar", "write"]

_PREFIX = "tag:yaml.org,2002:"
_RESOLVERS = (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", "<<", "<"),
)


def _install(resolver: Any) -> None:
    for name, pattern, first in _RESOLVERS:
        starts = [*first, ""] if name == "null" else list(first)
        resolver.add_implicit_resolver(_PREFIX + name, re.compile(f"^(?:{pattern})$"), starts)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own registry, filled below


class _Dumper(yaml.SafeDumper):
    # Keeps PyYAML's resolvers beside ours: a string is quoted where either YAML would take it for something else.
    pass


_install(_Loader)
_install(_Dumper)


class _DuplicateKeyError(yaml.MarkedYAMLError):
    pass


def _construct_mapping(loader: Any, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
    seen: dict[Hashable, yaml.Node] = {}
    for key_node, _ in node.value:
        if key_node.tag == _PREFIX + "merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, Hashable) and seen.setdefault(key, key_node) is not key_node:
            raise _DuplicateKeyError(problem=f"the key {key!r} occurs twice", problem_mark=key_node.start_mark)
    mapping: dict[Hashable, Any] = yaml.SafeLoader.construct_mapping(loader, node, deep=deep)
    return mapping


def _construct_map(loader: Any, node: yaml.MappingNode) -> Any:
    # In two steps, as PyYAML does, for anchors that refer to what they stand in.
    mapping: dict[Hashable, Any] = {}
    yield mapping
    mapping.update(_construct_mapping(loader, node))


def _construct_int(loader: Any, node: yaml.ScalarNode) -> int:
    text: str = loader.construct_scalar(node)
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _construct_float(loader: Any, node: yaml.ScalarNode) -> float:
    return float(loader.construct_scalar(node).lower().replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor(_PREFIX + "map", _construct_map)
_Loader.add_constructor(_PREFIX + "int", _construct_int)
_Loader.add_constructor(_PREFIX + "float", _construct_float)
_Dumper.add_representer(
    list, lambda dumper, value: dumper.represent_sequence(_PREFIX + "seq", value, flow_style=_is_flat(value))
)


# PyYAML loses characters such as U+0085 in all but double quotes.
_Dumper.add_representer(
    str,
    lambda dumper, value: dumper.represent_scalar(_PREFIX + "str", value, style=None if value.isprintable() else '"'),
)


def _is_flat(value: list[Any]) -> bool:
    return not any(isinstance(item, dict | list) and item for item in value)


def parse(text: str, source: str) -> Any:
    """The one document in `text`.

    Args:
        source: Where `text` is from, for messages.

    Raises:
        ConfigError: It is not YAML; says line and column.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(*_syntax_error(error, text, source)) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not YAML: {' '.join(str(error).split())}.") from None
    except (RecursionError, ValueError) as error:  # nested a thousand deep; `!!int abc`
        raise ConfigError(f"{source} is not YAML that segctl can read: {error}.") from None


def _syntax_error(error: yaml.MarkedYAMLError, text: str, source: str) -> tuple[str, str]:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return f"{source} is not YAML: {error.problem or error.context}.", ""
    place = f"{source}:{mark.line + 1}:{mark.column + 1}"
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return f"{place}: the line is indented with a tab.", "YAML allows only spaces there: replace the tab."
    if isinstance(error, _DuplicateKeyError):
        return f"{place}: {error.problem}.", "Which of the two is meant? Remove the other."
    if error.problem is not None and "expected a single document" in str(error.context):
        return f"{place}: a second document begins here.", "One file holds one configuration."
    return f"{place}: this is not YAML: {error.problem}.", ""


def document(path: Path) -> Any:
    """The one document in a file.

    Raises:
        ConfigError: It cannot be read, or is not YAML.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"There is no file {path}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}).", "Is it a YAML file?") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    return parse(text, str(path))


def read(path: Path, holds: str = "sections such as `model:` and `train:`") -> dict[str, Any]:
    """The mapping in a file; empty where the file is.

    Args:
        path: The file.
        holds: What such a file holds, for messages.

    Raises:
        ConfigError: It cannot be read, is not YAML, or is not a mapping with names as keys.
    """
    content = document(path)
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        kind = "keys that are not names" if isinstance(content, dict) else type(content).__name__
        raise ConfigError(
            f"{path} is not a configuration: it holds {kind}, not {holds}.",
        )
    return content


def scalar(text: str) -> Any:
    """A value of the command line: a list, mapping or quoted string in YAML's notation, or a plain scalar, taken whole.

    Unlike in a file, a plain value may hold ``": "`` or ``" #"``. What is not YAML is the text itself.
    """
    stripped = text.strip()
    if stripped[:1] in ("[", "{", '"', "'"):
        try:
            return parse(stripped, "the value")
        except ConfigError:
            return text
    for name, pattern, _ in _RESOLVERS[:4]:
        if re.fullmatch(pattern, stripped):
            # Quoting the tag makes the one constructor above decide what the text means.
            return yaml.load(f'!!{name} "{stripped}"', _Loader) if stripped else None
    return text


def write(value: dict[str, Any]) -> str:
    """`value` as a YAML document with its keys in their order, which `parse` reads back exactly."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=False)
