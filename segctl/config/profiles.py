"""Profiles: values of the section ``launch`` under a name, so that ``--on lab`` says all that a cluster wants to know.

::

    # ~/.config/segctl/profiles.yaml, or segctl.yaml in a project
    profiles:
      lab: {on: slurm, gpus: 4, time: 12:00:00, slurm: {partition: gpu, account: vision, memory: 64G}}
    default: lab

A profile of a project goes before the user's of the same name, as a whole. ``default`` is the profile that is used
where nobody says where; only the user's own file may name it, for a repository that was cloned must not decide where
its reader's jobs run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from segctl.config import sentences
from segctl.config.schema import Launch
from segctl.config.yaml_core import read
from segctl.errors import ConfigError, did_you_mean, listing

__all__ = ["BACKENDS", "Profile", "Profiles", "launch_of", "placed", "read_profiles"]

BACKENDS = ("local", "slurm")  # what `launch.on` is once profiles are resolved: keys of segctl.launch.backends.BACKENDS
PROJECT_FILE = "segctl.yaml"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_KEYS = ("profiles", "default")
Values = dict[str, Any]


@dataclass(frozen=True)
class Profile:
    """Values of the section ``launch`` under a name.

    Attributes:
        name: What ``--on`` takes.
        file: Where it stands.
        values: As it stands there.
        hides: The file of a profile of the same name that this one goes before.
    """

    name: str
    file: Path
    values: Any
    hides: Path | None = None


@dataclass(frozen=True)
class Profiles:
    """All profiles that can be seen from here.

    Attributes:
        found: By name.
        default: The name of the one that is used where nobody says where.
        user_file: Where the user's are looked for; None for a user without a home.
        project_file: The project's; None where there is none.
    """

    found: Mapping[str, Profile]
    default: str | None = None
    user_file: Path | None = None
    project_file: Path | None = None

    def named(self, name: str, key: str = "launch.on") -> Profile:
        """The profile of that name.

        Args:
            key: What names it, for the message; may be empty.

        Raises:
            ConfigError: There is none.
        """
        if name in self.found:
            return self.found[name]
        near = did_you_mean(name, (*BACKENDS, *self.found))
        there = f"{listing(BACKENDS)}, and the profiles are {listing(self.found)}" if self.found else listing(BACKENDS)
        raise ConfigError(
            f"{f'{key}: ' if key else ''}{name!r} is neither a place to run nor a profile. {near}".strip(),
            f"The places are {there}. {self.where()}",
        )

    def where(self) -> str:
        """Where profiles are read from, in a sentence."""
        own = f"{self.user_file}{'' if self.user_file.exists() else ' (not there)'}" if self.user_file else "no home"
        project = self.project_file or f"a project's {PROJECT_FILE} (none here)"
        return f"Profiles are read from {own} and {project}."


def read_profiles(folder: Path | None = None) -> Profiles:
    """The user's profiles and the project's.

    Args:
        folder: Where to look for the project; default: the working directory.

    Raises:
        ConfigError: A file cannot be read, or is not one of profiles. What a single profile holds is not looked at.
    """
    user, project = _user_file(), _project_file(folder or Path.cwd())
    found: dict[str, Profile] = {}
    default = None
    if user is not None and os.path.lexists(user):
        content = _content(user)
        found = _profiles(content, user)
        default = _default(content, user)
    if project is not None and project != user:
        content = _content(project)
        if "default" in content:
            raise ConfigError(
                f"{project}: a project cannot choose where its readers' jobs run by themselves: default is refused.",
                f"Name it in {user or 'your own file'}, with `default:` there, or use --on NAME.",
            )
        for name, profile in _profiles(content, project).items():
            found[name] = Profile(name, project, profile.values, hides=found[name].file if name in found else None)
    profiles = Profiles(dict(sorted(found.items())), default, user, project)
    if default is not None and default not in BACKENDS:
        profiles.named(default, f"{user}: default")
    return profiles


def _user_file() -> Path | None:
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"))
    return folder / "segctl" / "profiles.yaml" if folder.is_absolute() else None  # a container's user may have no home


def _project_file(folder: Path) -> Path | None:
    """The nearest one from `folder` up to the root of its repository or the home folder; elsewhere only its own.

    What lies above those is nobody's project: /tmp, for one, takes files from everybody.
    """
    home = os.path.expanduser("~")
    for place in (folder, *folder.parents):
        if place == Path(home) or (place / ".git").exists():
            within = (folder, *folder.parents)[: 1 + (folder, *folder.parents).index(place)]
            break
    else:
        within = (folder,)
    return next((file for place in within if (file := place / PROJECT_FILE).is_file()), None)


def _content(file: Path) -> Values:
    content = read(file, holds="`profiles:` and the names below it")
    for key in content:
        if key not in _KEYS:
            near = did_you_mean(key, _KEYS)
            recipe = f" A recipe should have another name than {PROJECT_FILE}." if file.name == PROJECT_FILE else ""
            raise ConfigError(
                f"{file}: {key}: there is no such key. {near}".strip(),
                f"A file of profiles has the key profiles, and a user's own also default.{recipe}",
            )
    return content


def _profiles(content: Values, file: Path) -> dict[str, Profile]:
    profiles = content.get("profiles")
    profiles = {} if profiles is None else profiles
    if not isinstance(profiles, dict):
        raise ConfigError(f"{file}: profiles is not a mapping of names to values.", "An example: lab: {on: slurm}")
    for name in profiles:
        if name in BACKENDS:
            raise ConfigError(
                f"{file}: profiles.{name}: a profile cannot have this name, which is a backend's.",
                f"Give it another, such as my_{name}.",
            )
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(
                f"{file}: profiles: {name!r} is not the name of a profile.",
                "A name is made of letters, digits, dots, hyphens and underscores; one of digits alone needs quotes.",
            )
    return {name: Profile(name, file, values) for name, values in profiles.items()}


def _default(content: Values, file: Path) -> str | None:
    default = content.get("default")
    if default is not None and not isinstance(default, str):
        raise ConfigError(f"{file}: default: {default!r} is not the name of a profile.")
    return default


def launch_of(profile: Profile) -> Launch:
    """The section ``launch`` that a profile by itself amounts to.

    Raises:
        ConfigError: It holds something that the section does not, or does not say where to run.
    """
    values = _checked(profile)
    return Launch.model_validate({**values, "profile": profile.name})


def _checked(profile: Profile) -> Values:
    place = f"profiles.{profile.name}"
    see = f"See {profile.file}."
    if profile.values is not None and not isinstance(profile.values, dict):
        raise ConfigError(f"{place} is not a mapping of settings.", f"An example: {{on: slurm, gpus: 4}}. {see}")
    values = _tidy(profile.values or {})
    if "profile" in values:
        raise ConfigError(f"{place}.profile: a profile cannot be built on another, or name itself.", see)
    if values.get("on") not in BACKENDS:
        given = "is missing" if values.get("on") is None else f"is {values['on']!r}"
        other = " A profile cannot be built on another." if isinstance(values.get("on"), str) else ""
        raise ConfigError(f"{place}.on {given}; it must be {' or '.join(BACKENDS)}.{other}", see)
    scope = sentences.Scope(Launch, place)
    try:
        launch = Launch.model_validate(values)
    except ValidationError as error:
        found = sentences.refused(error, scope)
    else:
        found = sentences.booleans_for_numbers(launch, values, scope)
    if found:
        message, hint = sentences.explain(found, values, scope)
        raise ConfigError(message, f"{hint} {see}".strip())
    return values


def _tidy(values: Mapping[str, Any]) -> Values:
    """A section ``launch`` of a file in one form: without empty sections, and with numbers among variables as text."""
    tidy = {key: value for key, value in values.items() if not (key == "slurm" and value is None)}
    slurm = tidy.get("slurm")
    if isinstance(slurm, dict):
        filled = {"setup", "environment", "options"}
        tidy["slurm"] = slurm = {key: value for key, value in slurm.items() if not (key in filled and value is None)}
        if isinstance(slurm.get("environment"), dict):
            slurm["environment"] = {name: _as_text(value) for name, value in slurm["environment"].items()}
    return tidy


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def placed(section: Any, typed: Mapping[tuple[str, ...], Any]) -> tuple[Any, Values]:
    """A recipe's section ``launch`` with the profile that is meant, if any, for flags to be laid over.

    Args:
        section: As the recipe has it.
        typed: What flags and ``--set`` give, by key.

    Returns:
        The section; and what it says of the place in the end, although a flag may name a profile there.

    Raises:
        ConfigError: There is no such profile, or it is not acceptable.
    """
    if section is not None and not isinstance(section, dict):
        return section, {}  # refused where the whole configuration is
    recipe = _tidy(section or {})
    by_recipe, by_user = recipe.get("on"), typed.get(("launch", "on"))
    if ("launch", "profile") in typed or (recipe.get("profile") is not None and by_recipe not in BACKENDS):
        raise ConfigError(
            "launch.profile: segctl notes here which profile it used.", "To choose one: --on NAME, or launch.on."
        )
    if by_user not in (None, by_recipe, recipe.get("profile")) and recipe.get("profile") is not None:
        recipe = {}  # what stands there belongs to the other profile, as options belong to a plugin
    on = by_recipe if by_user is None else by_user
    profiles = read_profiles() if on is None else None
    on = profiles.default if profiles else on
    if on is None or on in BACKENDS or not isinstance(on, str):
        return ({**recipe, "on": on} if on is not None else recipe), {}
    profile = (profiles or read_profiles()).named(on)
    return _laid_over(recipe, profile, named_by_recipe=by_user is None and by_recipe is not None)


def _laid_over(recipe: Values, profile: Profile, *, named_by_recipe: bool) -> tuple[Values, Values]:
    """A profile's values over the recipe's, or under those of a recipe that names it, and so says what is to differ."""
    values = _checked(profile)
    below, above = (values, recipe) if named_by_recipe else (recipe, values)
    below = dict(below)
    for one, other in (("gpus", "procs"), ("procs", "gpus")):  # they say one thing in two ways
        if above.get(one) is not None and above.get(other) is None:
            below.pop(other, None)
    place = {"on": values["on"], "profile": profile.name}
    return {**_merged(below, above), **place}, place


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Values:
    merged = dict(below)
    for key, value in above.items():
        before = merged.get(key)
        merged[key] = _merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged
