"""From a recipe, flags and ``--set`` to one complete, frozen `Config`; and from there to YAML and back.

Precedence: plugin defaults < recipe < profile < flags < ``--set``. Each error is one sentence that names the setting's
path.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from segctl import registry
from segctl.config import grid, sentences
from segctl.config.overrides import PLUGIN_SECTIONS, Key, Tree, apply, from_flags, from_sets, spread
from segctl.config.profiles import placed
from segctl.config.schema import Config, Input, Plugin, Section
from segctl.config.shipped import recipes
from segctl.config.yaml_core import read, write
from segctl.errors import ConfigError, PluginError, SegctlError, did_you_mean, listing
from segctl.options import describe
from segctl.plain_data import absolute, plain
from segctl.plugin import model_traits

__all__ = ["dump", "load", "recipes", "resolve", "resolve_dataset", "resolve_model"]


def resolve(
    recipe: str | Path | None = None,
    flags: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
    *,
    find_plugins: bool = True,
) -> Config:
    """The complete configuration of a run.

    A flag or ``--set`` that names another plugin than the recipe drops the recipe's options of that plugin (they
    belong to the other one), and with another model the loss too where it was the other model's own. What a model
    declares of its loss holds for a loss that is named, too, where that has an option of the same name and type that
    is not given. ``train.epochs`` takes back the recipe's ``train.steps``.

    ``launch.on`` may be a profile's name: the profile's values then go before the recipe's, or below those of a recipe
    that itself names it, and the result says ``launch.profile`` and the backend. Where nobody says where, the user's
    default profile holds. A saved configuration names a backend, so that no profile is looked at to replay it.

    Args:
        recipe: A YAML file, such as a run's ``config.yaml``, or the name of a shipped recipe.
        flags: Values by dotted path. ``{"model": "fcn"}`` names a plugin; strings are read as on the command line.
        sets: ``"a.b=value"``; lists and mappings in YAML's notation.
        find_plugins: False for a saved configuration whose plugins are other code than what is installed now: they are
            taken as they were saved.

    Returns:
        Plugins with all their options, a loss, and `data_root` absolute (default: ``$SEGCTL_DATA``, else ``data``).

    Raises:
        ConfigError: The recipe cannot be read, or a setting is unknown or not acceptable.
        PluginError: A plugin cannot be found or imported.
    """
    file = None if recipe is None else _recipe_file(recipe)
    tree = _tidy(read(file)) if file else {}
    from_recipe = copy.deepcopy(tree)
    given: dict[Key, str | None] = {}
    layers = [spread(from_flags(flags or {}), "launch"), spread(from_sets(sets), "launch")]
    typed = {override.key: override.value for layer in layers for override in layer}
    for key in typed:
        sentences.check_key(key)
    tree["launch"], place = placed(tree.get("launch"), typed)
    for layer in layers:
        apply(tree, layer, _same_plugin, given)
    if isinstance(tree["launch"], dict):
        tree["launch"].update(place)
    tree = _tidy(tree)
    if tree.get("data_root") is None:
        tree["data_root"] = os.environ.get("SEGCTL_DATA") or "data"
    if _loss_was_the_other_models(from_recipe, tree):
        del tree["loss"]
    config = _complete(tree, given, file) if find_plugins else _validated(tree, given, file)
    _refuse_slurm_elsewhere(config, typed)
    return config


def _refuse_slurm_elsewhere(config: Config, typed: Iterable[Key]) -> None:
    for key in typed:
        if key[:2] == ("launch", "slurm") and config.launch.on != "slurm":
            raise ConfigError(
                f"{'.'.join(key)}: only SLURM takes this, but the job is to run on {config.launch.on}.",
                "Add --on slurm, or --on with the name of a profile.",
            )


def resolve_model(flags: Mapping[str, Any]) -> Plugin:
    """The model that flags name, as `resolve` reads them, with all its options.

    Raises:
        ConfigError: None is named, or an option is not acceptable.
        PluginError: It cannot be found or imported.
    """
    return _alone("model", flags)


def resolve_dataset(flags: Mapping[str, Any]) -> Plugin:
    """The data set that flags name, likewise."""
    return _alone("dataset", flags)


def _alone(section: str, flags: Mapping[str, Any]) -> Plugin:
    tree: Tree = {}
    given: dict[Key, str | None] = {}
    apply(tree, from_flags(flags), _same_plugin, given)
    if not _named(tree, section):
        raise _not_named(section)
    return _plugin(
        section, Plugin.model_validate(tree[section]), {key: text for key, text in given.items() if text is not None}
    )


def _recipe_file(recipe: str | Path) -> Path:
    shipped = recipes()
    if str(recipe) in shipped:
        return shipped[str(recipe)]
    path = Path(os.path.expanduser(recipe))
    if path.is_dir() and (path / "config.yaml").is_file():
        raise ConfigError(
            f"{path} is a run, not a recipe.",
            f"To train the same anew: {path / 'config.yaml'}. To go on with it: segctl resume {path}",
        )
    if path.is_dir():
        raise ConfigError(f"{path} is a folder, not a recipe.", "Give a YAML file, or the name of a shipped recipe.")
    if path.exists():
        return path
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise ConfigError(f"There is no recipe file {path}.", f"Shipped recipes are {listing(shipped)}.")
    near = did_you_mean(str(recipe), shipped)
    raise ConfigError(
        f"There is no recipe {str(recipe)!r}. {near}".strip(),
        f"Give a YAML file, or one of the shipped recipes: {listing(shipped)}.",
    )


def _tidy(tree: Tree) -> Tree:
    """Leaves out sections that are empty, and writes plugins in one form: a mapping with their name and options."""
    tidy = dict(tree)
    for name, field in Config.model_fields.items():
        if tidy.get(name, ...) is None and isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            del tidy[name]
    for name in PLUGIN_SECTIONS:
        section = tidy.get(name)
        if isinstance(section, str):
            tidy[name] = {"name": section}
        elif isinstance(section, dict) and isinstance(section.get("options"), dict):
            tidy[name] = {**{key: value for key, value in section.items() if key != "options"}, **section["options"]}
    return tidy


def _same_plugin(kind: str, name: str, other: str) -> bool:
    if name == other:
        return True
    try:
        return registry.find(kind, name) == registry.find(kind, other)
    except PluginError:
        return False


def _loss_was_the_other_models(recipe: Tree, tree: Tree) -> bool:
    """Whether the loss is there only because the recipe, a saved configuration, spells out its own model's default."""
    loss, old, new = recipe.get("loss"), _named(recipe, "model"), _named(tree, "model")
    if not isinstance(loss, dict) or loss != tree.get("loss") or not old or not new or _same_plugin("models", old, new):
        return False
    try:
        own = registry.resolve_plugin("losses", _default_loss(old))
        return own == registry.resolve_plugin("losses", Plugin.model_validate(loss))
    except (SegctlError, ValidationError):
        return False


def _named(tree: Tree, section: str) -> str:
    name = sentences.value_at(tree, (section, "name"))
    return name if isinstance(name, str) else ""


def _complete(tree: Tree, given: Mapping[Key, str | None], file: Path | None) -> Config:
    for section in ("model", "dataset"):
        if tree.get(section) is None or not tree[section]:
            raise _not_named(section)
    loss_options = _options_of_the_default_loss(tree)
    config = _validated(tree, given, file)
    texts = {key: text for key, text in given.items() if text is not None}
    model = _plugin("model", config.model, texts)
    _refuse_two_inputs(config.input, model)
    own = _default_loss(model.name)
    if config.loss is None:
        loss = Plugin(name=own.name, options={**own.options, **loss_options})
    else:
        loss = Plugin(name=config.loss.name, options={**_declared_for(config.loss.name, own), **config.loss.options})
    return config.model_copy(
        update={
            "model": model,
            "dataset": _plugin("dataset", config.dataset, texts),
            "loss": _plugin("loss", loss, texts),
            "data_root": absolute(config.data_root),
        }
    )


def _refuse_two_inputs(changed: Input, model: Plugin) -> None:
    """A model that makes its own input takes for granted what it is given; see `ModelTraits.own_input`."""
    declared = model_traits(registry.find("models", model.name).load()).own_input
    options = [f"model.{name}" for name in declared if model.options.get(name) is not None]
    settings = [f"input.{name}" for name in Input.model_fields if getattr(changed, name) != getattr(Input(), name)]
    if options and settings:
        raise ConfigError(
            f"{listing(options)} can only be had with the section input as it is by default, but it has another "
            f"{listing(settings)}.",
            f"Leave out either {listing(settings)} or {listing(options)}.",
        )


def _options_of_the_default_loss(tree: Tree) -> dict[str, Any]:
    """Takes ``loss: {label_smoothing: 0.1}`` out of `tree`: options for whichever loss is the model's own."""
    loss = tree.get("loss")
    if not isinstance(loss, dict) or loss.get("name") is not None:
        return {}
    del tree["loss"]
    return {key: value for key, value in loss.items() if key != "name"}


def _default_loss(model: str) -> Plugin:
    traits = model_traits(registry.find("models", model).load())
    return Plugin(name=traits.loss, options=dict(traits.loss_options))


def _declared_for(loss: str, own: Plugin) -> dict[str, Any]:
    """What a model that declares `own` says of the options of `loss`, which the user names.

    All of it holds where that is the model's own loss. Of another one it holds for options of the same name and type:
    how much an auxiliary map counts follows from the model, not from what is computed on it.
    """
    if not own.options or _same_plugin("losses", own.name, loss):
        return own.options
    try:
        its, others = (
            {option.name: option.annotation for option in describe(registry.find("losses", name).load(), "loss")}
            for name in (own.name, loss)
        )
    except PluginError:  # if it is the one that is wanted, that is said where its options are checked
        return {}
    return {name: value for name, value in own.options.items() if name in others and others[name] == its.get(name)}


def _not_named(section: str) -> ConfigError:
    kind = PLUGIN_SECTIONS[section]
    what, installed = registry.KIND_NAMES[kind], listing(registry.names(kind))
    return ConfigError(
        f"{section} is missing: no {what} is named.", f"Give a recipe, or --{section} with one of {installed}."
    )


def _plugin(section: str, plugin: Plugin, texts: Mapping[Key, str]) -> Plugin:
    kind = PLUGIN_SECTIONS[section]
    with _at(f"{section}.name"):
        registry.find(kind, plugin.name)
    typed = {key[1]: text for key, text in texts.items() if key[0] == section and len(key) == 2}
    try:
        return registry.resolve_plugin(kind, plugin, texts=typed)
    except ConfigError as error:
        several: dict[Key, str | None] = {
            (section, name): text for name, text in typed.items() if f"{section}.{name}:" in error.message
        }
        raise ConfigError(error.message, error.hint or _as_a_sweep(several) or _who_takes_it(kind, plugin)) from None


def _as_a_sweep(typed: Mapping[Key, str | None]) -> str:
    """The way out where several values were typed for one setting that takes one, as in ``--lr 0.1,0.2``."""
    found = [f"--set {'.'.join(key)}={text}" for key, text in typed.items() if text and len(grid.split(text)) > 1]
    return f"For a sweep, a training with each of them, use {' '.join(found)}" if found else ""


def _who_takes_it(kind: str, plugin: Plugin) -> str:
    """Which plugins of the same distribution take a choice that this one refuses; may be empty."""
    entry = registry.find(kind, plugin.name)
    known = [other for other in registry.discover(kind) if other.distribution == entry.distribution]
    own, hints = _choices(entry), []
    for name, value in plugin.options.items():
        if own.get(name) and isinstance(value, str) and value not in own[name]:
            takers = [other for other in known if value in _choices(other).get(name, ())]
            takers = [other for other in takers if not registry.alias_of(other, known)]
            hints += [f"{value} is for {listing(other.name for other in takers)}."] if takers else []
    return " ".join(hints)


def _choices(entry: registry.PluginEntry) -> dict[str, tuple[Any, ...]]:
    try:
        return {option.name: option.choices for option in describe(entry.load(), registry.where(entry.kind))}
    except PluginError:  # a broken one is no answer here
        return {}


@contextmanager
def _at(path: str) -> Iterator[None]:
    try:
        yield
    except PluginError as error:
        raise PluginError(f"{path}: {error.message[0].lower()}{error.message[1:]}", error.hint) from None


def _validated(tree: Tree, given: Mapping[Key, str | None], file: Path | None) -> Config:
    try:
        config = _retried(tree, given)
    except ValidationError as error:
        found = sentences.refused(error)
    else:
        found = sentences.booleans_for_numbers(config, tree)
        if not found:
            return config
    message, hint = sentences.explain(found, tree)
    hint = hint or _as_a_sweep({key: given.get(key) for key in found})
    from_file = file and not all(any(_overlap(key, other) for other in given) for key in found)
    raise ConfigError(message, f"{hint} See {file}.".strip() if from_file else hint)


def _retried(tree: Tree, given: Mapping[Key, str | None]) -> Config:
    """Takes what was typed as it stands where it looks like a number, but is to be a string (``--name 007``)."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        typed = {key: text for key in sentences.refused(error) if (text := given.get(key)) is not None}
        typed = {key: text for key, text in typed.items() if not isinstance(sentences.value_at(tree, key), dict)}
        if not typed:
            raise
    changed = copy.deepcopy(tree)
    for key, text in typed.items():
        sentences.value_at(changed, key[:-1])[key[-1]] = text
    return Config.model_validate(changed)


def _overlap(key: Key, other: Key) -> bool:
    length = min(len(key), len(other))
    return key[:length] == other[:length]


def load(path: str | Path) -> Config:
    """A resolved configuration that was saved, as it is: no plugin is looked for.

    Raises:
        ConfigError: There is none, or it is not a complete configuration.
    """
    tree = read(Path(path))
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        message, hint = sentences.explain(sentences.refused(error), tree)
        raise ConfigError(f"{path}: {message}", hint) from None


def dump(config: Config) -> str:
    """`config` as YAML, in the order of the schema; `load` gives back an equal one."""
    return write(plain(config.model_dump()))
