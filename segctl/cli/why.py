"""``segctl why``."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

from segctl.cli import options, output
from segctl.cli.runs import STYLES

if TYPE_CHECKING:
    from rich.text import Text

    from segctl.why import Why


def why(run: options.RunReference, runs_dir: options.RunsDir = None, as_json: options.Json = False) -> None:
    """Say why a run failed, was ended or waits, what that rests on, and what to do next."""
    from segctl.why import why as ask

    found = ask(run, runs_dir=runs_dir)
    if as_json:
        output.document(asdict(found))
        return
    output.results().print(_page(found))


def _page(found: Why) -> Text:
    from rich.text import Text

    text = Text(no_wrap=True)
    text.append(f"{found.id} is ").append(found.state, STYLES.get(found.state, "")).append(f": {found.cause}\n")
    for each in found.evidence:
        text.append(f"\n{_shown(each.source)}\n", "bold")
        for line in each.lines:
            text.append(f"  {line}\n")
    if found.hint:
        text.append(f"\n{output.told(found.hint)}\n")
    if found.next:
        text.append("\nNext:\n", "bold")
        for command in found.next:
            text.append(f"  {command}\n")
    text.right_crop(1)
    return text


def _shown(source: str) -> str:
    """A path below the working directory as one types it."""
    relative = os.path.relpath(source) if os.path.isabs(source) else source
    return source if relative.startswith(os.pardir) else relative
