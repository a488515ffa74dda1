"""`segctl profiles`: which there are, what each amounts to, and what is told where one was used without being named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segctl.config.profiles import BACKENDS, Profile, Profiles, launch_of, read_profiles
from segctl.errors import ConfigError

if TYPE_CHECKING:
    from segctl.config.schema import Config, Launch

__all__ = ["NamedProfile", "implied", "launch_of_place", "profile", "profiles", "where"]


@dataclass(frozen=True)
class NamedProfile:
    """A profile as it is found.

    Attributes:
        name: What ``--on`` takes.
        file: Where it stands.
        values: As it stands there.
        default: It is used where nobody says where.
        hides: The file of the user's profile of that name, which it goes before.
        launch: The section ``launch`` that it amounts to by itself; None where it is not acceptable.
        problem: Why not.
    """

    name: str
    file: Path
    values: Mapping[str, Any]
    default: bool = False
    hides: Path | None = None
    launch: Launch | None = None
    problem: str = ""


def profiles(folder: Path | None = None) -> tuple[NamedProfile, ...]:
    """All profiles, the broken ones too, by name.

    Args:
        folder: Where to look for the project; default: the working directory.

    Raises:
        ConfigError: A file cannot be read, or is not one of profiles.
    """
    found = read_profiles(folder)
    return tuple(_described(each, found) for each in found.found.values())


def profile(name: str, folder: Path | None = None) -> NamedProfile:
    """One profile.

    Raises:
        ConfigError: There is none of that name, or it is not acceptable.
    """
    if name in BACKENDS:
        raise ConfigError(
            f"{name!r} is a backend: it has no values of its own.", "'segctl profiles list' lists the profiles."
        )
    found = read_profiles(folder)
    launch_of(found.named(name, ""))
    return _described(found.found[name], found)


def where(folder: Path | None = None) -> str:
    """Where profiles are read from, in a sentence."""
    return read_profiles(folder).where()


def launch_of_place(name: str) -> Launch:
    """The section ``launch`` that ``--on NAME`` amounts to by itself, for a profile or a backend.

    Raises:
        ConfigError: There is no such place, or it is not acceptable.
    """
    from segctl.config.schema import Launch

    return Launch(on=name) if name in BACKENDS else launch_of(read_profiles().named(name, ""))


def implied(config: Config, flags: Mapping[str, Any], sets: Sequence[str]) -> tuple[str, ...]:
    """What is told where the command line does not say where to run, but a profile does."""
    named = "launch.on" in flags or any(text.partition("=")[0].strip() in ("launch.on", "launch") for text in sets)
    launch = config.launch
    if launch.profile is None or named:
        return ()
    return (f"It runs on {launch.on}, by profile {launch.profile}; --on chooses another place.",)


def _described(found: Profile, among: Profiles) -> NamedProfile:
    launch, problem = None, ""
    try:
        launch = launch_of(found)
    except ConfigError as error:
        problem = error.message
    values = found.values if isinstance(found.values, dict) else {}
    return NamedProfile(found.name, found.file, values, found.name == among.default, found.hides, launch, problem)
