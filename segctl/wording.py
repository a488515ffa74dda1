"""How messages name values and types: ``train.epochs: 'abc' is not a number above 0.``

Works from type annotations, so that a setting of the schema and an option of a plugin are refused in the same words.
"""

from __future__ import annotations

import types
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from enum import Enum
from pathlib import PurePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from segctl.errors import did_you_mean

__all__ = ["choices", "expected", "reason", "refusal", "shown", "type_text"]

# pydantic's error types for which "is not" with the type's name says all, beside those that end in _type and _parsing.
_TYPE_ALONE = frozenset(
    (
        "missing",
        "greater_than",
        "greater_than_equal",
        "less_than",
        "less_than_equal",
        "too_short",
        "too_long",
        "finite_number",
        "int_from_float",
        "int_parsing_size",
        "literal_error",
        "enum",
        "none_required",
        "is_instance_of",
    )
)
_LONGEST = 80
_MANY = 12


def refusal(
    path: str,
    value: Any,
    annotation: Any,
    metadata: Sequence[Any] = (),
    *,
    allowed: str = "",
    errors: Sequence[Mapping[str, Any]] = (),
) -> str:
    """``"model.backbone: 'resnet5' is not one of resnet50, resnet101. Did you mean 'resnet50'?"``

    Args:
        path: Where the value stands.
        annotation: The type it should have had; `metadata` are its limits where they stand outside of ``Annotated``.
        allowed: What is allowed, in words, where the annotation says it badly.
        errors: What pydantic found.
    """
    if not allowed and (why := reason(errors)):
        return f"{path}: {shown(value)} is refused: {why}."
    sentence = f"{path}: {shown(value)} is not {allowed or expected(annotation, metadata)}."
    near = did_you_mean(str(value), (choice for choice in choices(annotation) if isinstance(choice, str)))
    return f"{sentence} {near}".strip()


def reason(errors: Sequence[Mapping[str, Any]]) -> str:
    """What pydantic's `errors` about a value say that its type does not: a validator's own words. May be empty."""
    beyond = [error for error in errors if not _is_of_type_alone(str(error["type"]))]
    if not beyond or len(beyond) < len(errors):
        return ""
    return str(beyond[0].get("ctx", {}).get("error") or beyond[0]["msg"]).rstrip(".")


def _is_of_type_alone(error: str) -> bool:
    return error in _TYPE_ALONE or error.endswith(("_type", "_parsing"))


def shown(value: Any) -> str:
    """`value` as YAML would have it, cut to a length that fits into a sentence."""
    text = _shown(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_shown(item)}' for key, item in value.items())}}}"
    return repr(str(value)) if isinstance(value, PurePath) else repr(value)


def choices(annotation: Any) -> tuple[Any, ...]:
    """The values of a ``Literal`` or an enumeration, also where it is one of several types that are allowed."""
    annotation, _ = _peeled(annotation, ())
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return tuple(member.value for member in annotation)
    if _is_union(annotation):
        found = [choices(part) for part in get_args(annotation)]
        none = (None,) if type(None) in get_args(annotation) and any(found) else ()
        return (*(choice for part in found for choice in part), *none)
    return ()


def expected(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """What a type allows, to stand after "is not": ``"a whole number above 0 or null"``."""
    return _nouns(annotation, metadata)[0]


def _nouns(annotation: Any, metadata: Sequence[Any]) -> tuple[str, str]:
    """The type's name for one value and for several."""
    annotation, metadata = _peeled(annotation, metadata)
    bounds = _bounds(metadata)
    if annotation is None or annotation is type(None):
        return "null", "nulls"
    if isinstance(annotation, Hashable) and annotation in _SIMPLE:
        one, many = _SIMPLE[annotation]
        return one + bounds, many + bounds
    if _is_union(annotation):
        # Limits outside of the union are those of its numbers: `Annotated[int | None, Field(gt=0)]`.
        return _either(_nouns(part, metadata)[0] for part in get_args(annotation)), "values"
    if found := [_bare(choice) for choice in choices(annotation)]:
        listed = f"{', '.join(found[:_MANY])}{', ...' if len(found) > _MANY else ''}"
        return (f"one of {listed}", f"values of {listed}") if len(found) > 1 else (listed, listed)
    one, many = _composite(annotation)
    return one + _length(metadata), many


def _bare(choice: Any) -> str:
    return choice if isinstance(choice, str) else _shown(choice)


_SIMPLE: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a string", "strings"),
    Any: ("a value", "values"),
}


def _composite(annotation: Any) -> tuple[str, str]:
    origin = get_origin(annotation) or annotation
    items = get_args(annotation)
    if isinstance(origin, type):
        if issubclass(origin, PurePath):
            return "a path", "paths"
        if issubclass(origin, tuple) and items and Ellipsis not in items:
            return _row(items), "lists"
        if issubclass(origin, Sequence | Set) and origin not in (bytes, bytearray):
            return (f"a list of {_nouns(items[0], ())[1]}" if items else "a list"), "lists"
        if issubclass(origin, Mapping):
            return "a mapping", "mappings"
    name = getattr(annotation, "__name__", str(annotation))
    return f"a {name}", f"{name}s"


def _row(items: tuple[Any, ...]) -> str:
    nouns = [_nouns(item, ()) for item in items]
    if len(set(nouns)) == 1:
        return f"a list of {len(nouns)} {nouns[0][1]}"
    return f"a list of {', '.join(one for one, _ in nouns[:-1])} and {nouns[-1][0]}"


def _either(words: Iterable[str]) -> str:
    found = list(dict.fromkeys(words))
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} or {found[-1]}"


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _peeled(annotation: Any, metadata: Sequence[Any]) -> tuple[Any, list[Any]]:
    """The type inside of ``Annotated``, and all its limits; pydantic's ``Field`` keeps them in a list of its own."""
    found = list(metadata)
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        found += more
    return annotation, [limit for item in found for limit in getattr(item, "metadata", [item])]


def _bounds(metadata: Sequence[Any]) -> str:
    limits = {
        name: getattr(item, name) for item in metadata for name in ("gt", "ge", "lt", "le") if hasattr(item, name)
    }
    limits = {name: value for name, value in limits.items() if value is not None}
    if "ge" in limits and "le" in limits:
        return f" from {limits['ge']} to {limits['le']}"
    words = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}
    stated = [f"{word} {limits[name]}" for name, word in words.items() if name in limits]
    return f" {' and '.join(stated)}" if stated else ""


def _length(metadata: Sequence[Any]) -> str:
    least = max((item.min_length for item in metadata if getattr(item, "min_length", None)), default=None)
    most = min((item.max_length for item in metadata if getattr(item, "max_length", None)), default=None)
    stated = [f"{word} {limit}" for word, limit in (("at least", least), ("at most", most)) if limit is not None]
    return f", {' and '.join(stated)} of them" if stated else ""


def type_text(annotation: Any) -> str:
    """A type for a reader: ``"int | null"``, ``"resnet50 | resnet101"``, ``"list[float]"``."""
    annotation, _ = _peeled(annotation, ())
    if annotation is None or annotation is type(None):
        return "null"
    if annotation is Any:
        return "any"
    if _is_union(annotation):
        return " | ".join(dict.fromkeys(type_text(part) for part in get_args(annotation)))
    if found := choices(annotation):
        return " | ".join(map(_bare, found))
    origin, items = get_origin(annotation), get_args(annotation)
    if isinstance(origin, type) and items and not isinstance(items[0], list):  # Callable's first item is a list
        inner = ", ".join("..." if item is Ellipsis else type_text(item) for item in items)
        return f"{origin.__name__}[{inner}]"
    if isinstance(annotation, type) and issubclass(annotation, PurePath):
        return "path"
    return str(getattr(annotation, "__name__", annotation))
