"""The recipes that come with segctl. Light: it lists files, and reads no more of them than their first lines."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

__all__ = ["recipe_description", "recipes"]


def recipes() -> dict[str, Path]:
    """The shipped recipes by name, sorted: ``jobs/segctl_jobs/recipes/*.yaml``."""
    spec = find_spec("segctl_jobs")  # a top-level package, so nothing is imported to find it
    folders = spec.submodule_search_locations if spec else None
    files = [file for folder in folders or () for file in Path(folder, "recipes").glob("*.yaml")]
    return {file.stem: file for file in sorted(files)}


def recipe_description(recipe: Path) -> str:
    """The comment that a recipe begins with, in one line; empty where there is none."""
    lines = []
    with recipe.open(encoding="utf-8") as file:
        for line in file:
            if not line.startswith("#"):
                break
            lines.append(line.lstrip("#").strip())
    return " ".join(lines).strip()
