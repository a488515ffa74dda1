"""A plugin's options: the keyword arguments of its factory, with their types, defaults and choices, and the words
about them.

Not options are the arguments that segctl itself gives: those without a default that can be given by position
(``num_classes``; ``root`` and ``split``), and what a loss may ask for (``num_classes``, ``ignore_index``,
``class_pixels``, ``create_loss``).
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from segctl.errors import ConfigError, PluginError, did_you_mean, listing
from segctl.plain_data import plain
from segctl.wording import choices, expected, refusal, type_text

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

__all__ = ["CONTEXT", "Option", "arguments", "describe", "validate"]

Factory = Callable[..., Any]

# What segctl gives to the factories of each kind, whatever the signature says of it.
CONTEXT: Mapping[str, frozenset[str]] = {
    "model": frozenset({"num_classes"}),
    "dataset": frozenset({"root", "split"}),
    "loss": frozenset({"num_classes", "ignore_index", "class_pixels", "create_loss"}),
}
_ANY_CONTEXT = frozenset().union(*CONTEXT.values())
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Option:
    """One option of a plugin.

    Attributes:
        type_text: Its type for a reader, such as ``"int | null"``.
        default: What it is when not given; None where `required`.
        choices: The values it is limited to; empty where it is not.
        help: What the docstring says of it, in one line; may be empty.
        annotation: Its type for a program.
    """

    name: str
    type_text: str
    default: Any
    required: bool
    choices: tuple[Any, ...]
    help: str
    annotation: Any = field(repr=False, compare=False)


def describe(factory: Factory, where: str = "") -> tuple[Option, ...]:
    """The options of a plugin, in the order of its signature.

    Args:
        factory: The function or class that the entry point names.
        where: Its kind, ``"model"``, ``"dataset"`` or ``"loss"``; decides which arguments segctl gives. Empty: those
            of any kind.

    Raises:
        PluginError: The signature cannot be read, or the type of an option cannot be evaluated.
    """
    help_of = _documented(factory)
    return tuple(
        _option(factory, parameter, help_of.get(parameter.name, ""))
        for parameter in _signature(factory).parameters.values()
        if _is_option(parameter, CONTEXT.get(where, _ANY_CONTEXT))
    )


def _signature(factory: Factory) -> inspect.Signature:
    try:
        return inspect.signature(factory)
    except (TypeError, ValueError) as error:
        raise PluginError(f"The arguments of {_name(factory)} cannot be read: {error}.") from error


def accepted_context(factory: Factory, where: str) -> frozenset[str]:
    """Those of the arguments segctl has for this kind that the factory takes."""
    return CONTEXT[where] & {
        name for name, parameter in _signature(factory).parameters.items() if parameter.kind not in _VARIADIC
    }


def _is_option(parameter: inspect.Parameter, context: frozenset[str]) -> bool:
    if parameter.kind in _VARIADIC or parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        return False
    given_by_position = parameter.kind in _BY_POSITION and parameter.default is inspect.Parameter.empty
    return not given_by_position and parameter.name not in context


def _option(factory: Factory, parameter: inspect.Parameter, text: str) -> Option:
    annotation = _annotation(factory, parameter)
    required = parameter.default is inspect.Parameter.empty
    return Option(
        name=parameter.name,
        type_text=type_text(annotation),
        default=None if required else parameter.default,
        required=required,
        choices=choices(annotation),
        help=text,
        annotation=annotation,
    )


def _annotation(factory: Factory, parameter: inspect.Parameter) -> Any:
    default = parameter.default
    if parameter.annotation is inspect.Parameter.empty:
        return type(default) if isinstance(default, bool | int | float | str) else Any
    # One at a time: an annotation that only a type checker can evaluate matters for an option, but not elsewhere.
    alone = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        hints = typing.get_type_hints(alone, globalns=_globals(factory), include_extras=True)
    except Exception as error:
        raise PluginError(
            f"The type of option {parameter.name!r} of {_name(factory)} cannot be evaluated: {error}.",
            "An option's type must be importable when the plugin runs, not only under TYPE_CHECKING.",
        ) from error
    annotation = hints[parameter.name]
    return typing.Optional[annotation] if default is None else annotation  # noqa: UP045 - `|` fails on strings


def _globals(factory: Factory) -> dict[str, Any]:
    while isinstance(factory, functools.partial):
        factory = factory.func
    if inspect.isclass(factory):
        factory = factory.__init__
    elif not inspect.isroutine(factory):
        factory = type(factory).__call__
    return getattr(inspect.unwrap(factory), "__globals__", {})


def _name(factory: Factory) -> str:
    return f"{getattr(factory, '__module__', '?')}.{getattr(factory, '__qualname__', type(factory).__name__)}"


_SECTION = re.compile(r"^(?:Args|Arguments|Keyword Args|Keyword Arguments|Parameters|Options):\s*$")
_ENTRY = re.compile(r"^\s+\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")


def _documented(factory: Factory) -> dict[str, str]:
    """What the ``Args:`` sections say; of a class those of ``__init__``, of the class and of those it derives from."""
    if not inspect.isclass(factory):
        return _arguments_section(inspect.getdoc(factory) or "")
    found: dict[str, str] = {}
    for owner in reversed(factory.__mro__[:-1]):
        found |= _arguments_section(inspect.cleandoc(owner.__dict__.get("__doc__") or ""))
        found |= _arguments_section(inspect.cleandoc(getattr(owner.__dict__.get("__init__"), "__doc__", None) or ""))
    return found


def _arguments_section(docstring: str) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    inside, depth, name = False, 0, ""
    for line in docstring.splitlines():
        if line.strip() and not line[0].isspace():
            inside, depth, name = bool(_SECTION.match(line)), 0, ""
            continue
        if not inside or not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        depth = depth or indent
        entry = _ENTRY.match(line) if indent <= depth else None
        if entry:
            name = entry[1]
            found[name] = [entry[2]]
        elif name:
            found[name].append(line.strip())
    return {name: " ".join(lines).strip() for name, lines in found.items()}


def validate(
    factory: Factory, given: Mapping[str, Any], *, where: str, name: str = "", texts: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Checks options and completes them with their defaults, as plain data that a configuration can hold.

    A default that has no plain form (a class, a function) is left to the factory. A value of type `pathlib.Path` is
    made absolute against the current directory, because a job may run in another.

    Args:
        given: Options by name, as a recipe or the command line has them; strings are read as what the option is.
        where: The kind, ``"model"``, ``"dataset"`` or ``"loss"``: the beginning of the path in messages.
        name: The plugin's name in messages.
        texts: What was typed on the command line for some of `given`; it counts where the option is a string after all
            (``007``).

    Raises:
        ConfigError: An option is unknown, missing, or not of its type; says which, and what is allowed.
        PluginError: The plugin's signature is not usable.
    """
    options = describe(factory, where)
    values = _checked(factory, options, given, where=where, name=name, texts=texts or {})
    complete: dict[str, Any] = {}
    for option in options:
        try:
            if option.name in given:
                complete[option.name] = plain(values[option.name], absolute_paths=True)
            else:
                complete[option.name] = plain(option.default)
        except TypeError as error:
            if option.name in given:
                raise ConfigError(f"{where}.{option.name}: this value cannot be recorded: {error}.") from error
    return complete


def arguments(factory: Factory, given: Mapping[str, Any], *, where: str, name: str = "") -> dict[str, Any]:
    """`given` options as the signature declares them: paths, tuples, enumerations. Raises as `validate` does."""
    values = _checked(factory, describe(factory, where), given, where=where, name=name, texts={})
    return {option: values[option] for option in given}


def _checked(
    factory: Factory,
    options: tuple[Option, ...],
    given: Mapping[str, Any],
    *,
    where: str,
    name: str,
    texts: Mapping[str, str],
) -> dict[str, Any]:
    from pydantic import ValidationError

    name = name or _name(factory)
    unknown = [key for key in given if key not in {option.name for option in options}]
    if unknown:
        raise _unknown(unknown, options, where, name)
    try:
        result = _model(factory, options).model_validate(dict(given))
    except ValidationError as error:
        found = _found(error)
        typed = {key: texts[key] for key in found if key in texts and texts[key] != given.get(key)}
        with contextlib.suppress(ConfigError):  # its values are those tried last, not those given
            if typed:
                return _checked(factory, options, {**given, **typed}, where=where, name=name, texts={})
        raise ConfigError(_sentences(found, options, given, where, name)) from None
    values = {option.name: getattr(result, f"option{index}") for index, option in enumerate(options)}
    for option in options:
        if option.name in given and takes_boolean_for_number(given[option.name], values[option.name]):
            raise ConfigError(refusal(f"{where}.{option.name}", given[option.name], option.annotation))
    return values


def _model(factory: Factory, options: tuple[Option, ...]) -> type[BaseModel]:
    from pydantic import ConfigDict, Field, create_model
    from pydantic.errors import PydanticUserError

    # Numbered names and aliases, because an option may be called what pydantic's own attributes are (copy, json,
    # model_...).
    fields: dict[str, Any] = {
        f"option{index}": (
            option.annotation,
            Field(alias=option.name) if option.required else Field(default=option.default, alias=option.name),
        )
        for index, option in enumerate(options)
    }
    try:
        return create_model("Options", __config__=ConfigDict(arbitrary_types_allowed=True), **fields)
    except (PydanticUserError, TypeError) as error:
        raise PluginError(f"The options of {_name(factory)} cannot be checked: {error}.") from error


def takes_boolean_for_number(given: Any, result: Any) -> bool:
    """Whether `given` holds true or false where the validated `result` has a number; pydantic takes true for 1."""
    if isinstance(given, bool):
        return isinstance(result, int | float) and not isinstance(result, bool)
    if isinstance(given, dict) and isinstance(result, Mapping):
        return any(takes_boolean_for_number(item, result.get(key)) for key, item in given.items())
    if isinstance(given, list | tuple) and isinstance(result, list | tuple):
        return any(takes_boolean_for_number(*pair) for pair in zip(given, result, strict=False))
    return False


def _found(error: ValidationError) -> dict[str, list[Any]]:
    """What pydantic found, by the name of the option."""
    found: dict[str, list[Any]] = {}
    for finding in error.errors(include_url=False):
        found.setdefault(str(finding["loc"][0]), []).append(finding)
    return found


def _unknown(unknown: list[str], options: tuple[Option, ...], where: str, name: str) -> ConfigError:
    known = [option.name for option in options]
    sentences = [
        f"{where}.{key}: {name} has no option {key!r}. {did_you_mean(str(key), known)}".strip() for key in unknown
    ]
    return ConfigError("\n".join(sentences), f"Its options are {listing(known)}." if known else "It has no options.")


def _sentences(
    found: Mapping[str, list[Any]], options: Iterable[Option], given: Mapping[str, Any], where: str, name: str
) -> str:
    by_name = {option.name: option for option in options}
    return "\n".join(
        refusal(f"{where}.{key}", given[key], by_name[key].annotation, errors=errors)
        if key in given
        else f"{where}.{key} is missing: {name} needs {expected(by_name[key].annotation)}."
        for key, errors in found.items()
    )
