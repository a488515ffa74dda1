"""Tables that fit the terminal. Rich lays its own out cell by cell, which takes half a second for a thousand runs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

GAP = 2


@dataclass(frozen=True)
class Column:
    """A column; those given first are kept longest where the width does not do for all.

    Attributes:
        title: Heading.
        right: Align right, for numbers.
    """

    title: str
    right: bool = False


@dataclass(frozen=True)
class Row:
    """A row; `note` ends the line if it fits there, else it goes below. `styles` are rich's, by column index."""

    cells: tuple[str, ...]
    note: str = ""
    styles: tuple[tuple[int, str], ...] = ()


def table(columns: Sequence[Column], rows: Sequence[Row], width: int) -> Text:
    """The heading and one line per row; no line is longer than `width`, unless the first column is."""
    from rich.text import Text

    widths = [max([len(column.title), *(len(row.cells[i]) for row in rows)]) for i, column in enumerate(columns)]
    empty = {i for i in range(1, len(columns)) if not any(row.cells[i] for row in rows)}
    kept = _fitting(widths, empty, width)
    text = Text(no_wrap=True)
    for row in (Row(tuple(column.title for column in columns), styles=tuple((i, "bold") for i in kept)), *rows):
        room = width - sum(widths[i] + GAP for i in kept)
        beside = 0 < len(row.note) <= room
        for i in kept:
            cell = row.cells[i].rjust(widths[i]) if columns[i].right else row.cells[i].ljust(widths[i])
            last = i == kept[-1] and not beside
            text.append(cell.rstrip() if last else cell, dict(row.styles).get(i)).append("" if last else " " * GAP)
        for line in [row.note] if beside else textwrap.wrap(row.note, max(width - 4, 10), break_on_hyphens=False):
            text.append(line if beside else f"\n    {line}", "dim")
        text.append("\n")
    text.right_crop(1)
    return text


def _fitting(widths: Sequence[int], empty: Set[int], width: int) -> list[int]:
    """The columns to show: the first ones that fit, without those that say nothing."""
    kept: list[int] = []
    used = -GAP
    for index, wide in enumerate(widths):
        if index in empty:
            continue
        used += GAP + wide
        if kept and used > width:
            break
        kept.append(index)
    return kept
