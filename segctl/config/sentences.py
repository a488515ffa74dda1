"""What pydantic finds wrong with a configuration, in sentences: path, wrong value, what is allowed, nearest name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from segctl.config.schema import Config, Plugin
from segctl.errors import ConfigError, did_you_mean, listing
from segctl.options import takes_boolean_for_number
from segctl.wording import refusal, shown

__all__ = ["Key", "booleans_for_numbers", "check_key", "explain", "refused", "value_at"]

Key = tuple[str, ...]


def refused(error: ValidationError) -> dict[Key, list[Any]]:
    """pydantic's findings by the setting they concern, whatever lies below it (items of a list, members of a union)."""
    found: dict[Key, list[Any]] = {}
    for finding in error.errors(include_url=False):
        found.setdefault(_setting(finding["loc"]), []).append(finding)
    return found


def _setting(location: tuple[int | str, ...]) -> Key:
    section: type[BaseModel] | None = Config
    key: list[str] = []
    for part in location:
        if section is None:
            break
        key.append(str(part))
        section = _section(section, str(part))
    return tuple(key)


def _section(parent: type[BaseModel], name: str) -> type[BaseModel] | None:
    field = parent.model_fields.get(name)
    if field is None:
        return None
    for annotation in (field.annotation, *get_args(field.annotation)):
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation
    return None


def booleans_for_numbers(config: Config, tree: Mapping[str, Any]) -> dict[Key, list[Any]]:
    """Settings for which `tree` has true or false where a number belongs; pydantic takes true for 1. As `refused`."""
    result = config.model_dump()
    keys: list[Key] = []
    for section, settings in tree.items():
        if _section_at((section,)) is not Plugin:
            keys += [(section, name) for name in settings] if isinstance(settings, dict) else [(section,)]
    wrong = [key for key in keys if takes_boolean_for_number(value_at(tree, key), value_at(result, key))]
    return {key: [{"type": "int_type", "msg": ""}] for key in wrong}


def check_key(key: Key) -> None:
    """Refuses a path that leads nowhere; options of plugins are not known here.

    Raises:
        ConfigError: There is no such setting.
    """
    section: type[BaseModel] | None = Config
    for depth, part in enumerate(key):
        if section is Plugin:
            return
        if section is None:
            raise ConfigError(f"{'.'.join(key)}: {'.'.join(key[:depth])} is a single value, with nothing below it.")
        if part not in section.model_fields:
            raise ConfigError(*_unknown(key[: depth + 1]))
        section = _section(section, part)


def _field_at(key: Key) -> FieldInfo | None:
    section: type[BaseModel] | None = Config
    field = None
    for part in key:
        field = section.model_fields.get(part) if section else None
        section = _section(section, part) if section else None
    return field


def value_at(tree: Any, key: Key) -> Any:
    for part in key:
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def explain(found: Mapping[Key, list[Any]], tree: Mapping[str, Any]) -> tuple[str, str]:
    """One sentence for each setting in `found`, a line each, and the way out of the first."""
    sentences = [_sentence(key, findings, tree) for key, findings in found.items()]
    return "\n".join(sentence for sentence, _ in sentences), sentences[0][1]


def _sentence(key: Key, findings: list[Any], tree: Mapping[str, Any]) -> tuple[str, str]:
    path, value, kind = ".".join(key), value_at(tree, key), findings[0]["type"]
    field = _field_at(key)
    if kind == "extra_forbidden":
        return _unknown(key)
    if kind == "missing" and value is None:
        return f"{path} is missing.", ""
    section = _section_at(key)
    if section is Plugin and not isinstance(value, dict):
        return f"{path}: {shown(value)} is not a plugin's name, or a mapping with its name and options.", ""
    if section is not None and isinstance(value, dict):  # what a section says of its settings together
        reason = findings[0].get("ctx", {}).get("error") or findings[0]["msg"]
        return f"{path}: {reason}.", ""
    if section is not None:
        return f"{path}: {shown(value)} is not a section.", f"Its settings are {listing(sorted(section.model_fields))}."
    if field is None:
        return f"{path or 'The configuration'}: {shown(value)} is refused: {findings[0]['msg']}.", ""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    allowed = str(extra.get("allowed", ""))
    return refusal(path, value, field.annotation, field.metadata, allowed=allowed, errors=findings), ""


def _section_at(key: Key) -> type[BaseModel] | None:
    section: type[BaseModel] | None = Config
    for part in key:
        section = _section(section, part) if section else None
    return section


def _unknown(key: Key) -> tuple[str, str]:
    *parents, last = key
    siblings = sorted((_section_at(tuple(parents)) or Config).model_fields)
    near = did_you_mean(last, siblings)
    if near and parents:
        near = did_you_mean(".".join(key), [".".join((*parents, name)) for name in siblings]) or near
    elsewhere = [path for path in _all_paths() if path.rpartition(".")[2] == last]
    if elsewhere:
        near = f"Did you mean {elsewhere[0]!r}?"
    place = f"{'.'.join(parents)} has" if parents else "There are"
    hint = f"{place} {listing(siblings)}."
    return f"{'.'.join(key)}: there is no such setting. {near}".strip(), hint


def _all_paths(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    for name in section.model_fields:
        below = _section(section, name)
        if below is None:
            yield prefix + name
        elif below is not Plugin:
            yield from _all_paths(below, f"{prefix}{name}.")
