"""What pydantic finds wrong with a configuration, in sentences: path, wrong value, what is allowed, nearest name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from segctl.config.schema import Config, Plugin
from segctl.errors import ConfigError, did_you_mean, listing
from segctl.options import takes_boolean_for_number
from segctl.wording import refusal, shown

__all__ = ["Key", "Scope", "booleans_for_numbers", "check_key", "explain", "refused", "value_at"]

Key = tuple[str, ...]


@dataclass(frozen=True)
class Scope:
    """What is being read: a whole configuration, or the values of one of its sections in another place.

    Attributes:
        root: Keys are paths in it.
        place: What stands before them in messages, such as ``profiles.lab``.
    """

    root: type[BaseModel] = Config
    place: str = ""

    def path(self, key: Key) -> str:
        return ".".join((*([self.place] if self.place else []), *key))


WHOLE = Scope()


def refused(error: ValidationError, scope: Scope = WHOLE) -> dict[Key, list[Any]]:
    """pydantic's findings by the setting they concern, whatever lies below it (items of a list, members of a union)."""
    found: dict[Key, list[Any]] = {}
    for finding in error.errors(include_url=False):
        found.setdefault(_setting(finding["loc"], scope), []).append(finding)
    return found


def _setting(location: tuple[int | str, ...], scope: Scope) -> Key:
    section: type[BaseModel] | None = scope.root
    for depth, part in enumerate(location):
        if section is None:
            return tuple(map(str, location[:depth]))
        if _values_of_mapping(section, str(part)) is not None:
            return tuple(map(str, location[: depth + 2]))
        section = _section(section, str(part))
    return tuple(map(str, location))


def _section(parent: type[BaseModel], name: str) -> type[BaseModel] | None:
    field = parent.model_fields.get(name)
    if field is None:
        return None
    for annotation in (field.annotation, *get_args(field.annotation)):
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation
    return None


def _values_of_mapping(parent: type[BaseModel], name: str) -> Any:
    """The type of the values where a setting is a mapping with names of the user's choice; None where it is not."""
    field = parent.model_fields.get(name)
    if parent is Plugin or field is None or get_origin(field.annotation) is not dict:
        return None
    return get_args(field.annotation)[1]


def booleans_for_numbers(config: BaseModel, tree: Mapping[str, Any], scope: Scope = WHOLE) -> dict[Key, list[Any]]:
    """Settings for which `tree` has true or false where a number belongs; pydantic takes true for 1. As `refused`."""
    result = config.model_dump()
    keys = _settings(tree, scope.root)
    wrong = [key for key in keys if takes_boolean_for_number(value_at(tree, key), value_at(result, key))]
    return {key: [{"type": "int_type", "msg": ""}] for key in wrong}


def _settings(tree: Mapping[str, Any], section: type[BaseModel], above: Key = ()) -> Iterator[Key]:
    for name, value in tree.items():
        below = _section(section, name)
        if below is not None and below is not Plugin and isinstance(value, dict):
            yield from _settings(value, below, (*above, name))
        elif below is not Plugin:
            yield (*above, name)


def check_key(key: Key) -> None:
    """Refuses a path that leads nowhere; options of plugins are not known here.

    Raises:
        ConfigError: There is no such setting.
    """
    section: type[BaseModel] | None = Config
    for depth, part in enumerate(key):
        if section is Plugin:
            return
        if section and _values_of_mapping(section, part) is not None and len(key) <= depth + 2:
            return
        if section is None:
            raise ConfigError(f"{'.'.join(key)}: {'.'.join(key[:depth])} is a single value, with nothing below it.")
        if part not in section.model_fields:
            raise ConfigError(*_unknown(key[: depth + 1], WHOLE))
        section = _section(section, part)


def _field_at(key: Key, scope: Scope) -> FieldInfo | None:
    section: type[BaseModel] | None = scope.root
    field = None
    for part in key:
        field = section.model_fields.get(part) if section else None
        section = _section(section, part) if section else None
    return field


def value_at(tree: Any, key: Key) -> Any:
    for part in key:
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def explain(found: Mapping[Key, list[Any]], tree: Mapping[str, Any], scope: Scope = WHOLE) -> tuple[str, str]:
    """One sentence for each setting in `found`, a line each, and the way out of the first."""
    sentences = [_sentence(key, findings, tree, scope) for key, findings in found.items()]
    return "\n".join(sentence for sentence, _ in sentences), sentences[0][1]


def _sentence(key: Key, findings: list[Any], tree: Mapping[str, Any], scope: Scope) -> tuple[str, str]:
    path, value, kind = scope.path(key), value_at(tree, key), findings[0]["type"]
    field = _field_at(key, scope)
    if kind == "extra_forbidden":
        return _unknown(key, scope)
    if kind == "missing" and value is None:
        return f"{path} is missing.", ""
    section = _section_at(key, scope)
    if section is Plugin and not isinstance(value, dict):
        return f"{path}: {shown(value)} is not a plugin's name, or a mapping with its name and options.", ""
    if section is not None and isinstance(value, dict):  # what a section says of its settings together
        reason = findings[0].get("ctx", {}).get("error") or findings[0]["msg"]
        return f"{path}: {reason}.", ""
    if section is not None:
        return f"{path}: {shown(value)} is not a section.", f"Its settings are {listing(sorted(section.model_fields))}."
    parent = _section_at(key[:-2], scope) if len(key) > 1 else None
    if parent is not None and (values := _values_of_mapping(parent, key[-2])) is not None:
        return refusal(path, value, values, errors=findings), ""
    if field is None:
        return f"{path or 'The configuration'}: {shown(value)} is refused: {findings[0]['msg']}.", ""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    allowed = str(extra.get("allowed", ""))
    return refusal(path, value, field.annotation, field.metadata, allowed=allowed, errors=findings), ""


def _section_at(key: Key, scope: Scope) -> type[BaseModel] | None:
    section: type[BaseModel] | None = scope.root
    for part in key:
        section = _section(section, part) if section else None
    return section


def _unknown(key: Key, scope: Scope) -> tuple[str, str]:
    *parents, last = key
    place = scope.path(tuple(parents))
    siblings = sorted((_section_at(tuple(parents), scope) or scope.root).model_fields)
    near = did_you_mean(last, siblings)
    if near and place:
        near = did_you_mean(scope.path(key), [f"{place}.{name}" for name in siblings]) or near
    elsewhere = [path for path in _all_paths(scope.root) if path[-1] == last]
    if elsewhere:
        near = f"Did you mean {scope.path(elsewhere[0])!r}?"
    hint = f"{place} has {listing(siblings)}." if place else f"There are {listing(siblings)}."
    return f"{scope.path(key)}: there is no such setting. {near}".strip(), hint


def _all_paths(section: type[BaseModel], above: Key = ()) -> Iterator[Key]:
    for name in section.model_fields:
        below = _section(section, name)
        if below is None:
            yield (*above, name)
        elif below is not Plugin:
            yield from _all_paths(below, (*above, name))
