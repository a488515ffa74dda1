"""What `segctl data check` found, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from segctl.cli import output
from segctl.cli.table import Column, Row, table

if TYPE_CHECKING:
    from rich.text import Text

    from segctl.data_check.check import DataReport, SplitReport
    from segctl.data_check.findings import Case, Finding

SHOWN = 5  # cases of one kind; --json has more
STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
NOTHING = "-"


def render(report: DataReport, width: int) -> Text:
    """The splits, the classes, then what is wrong, the worst last, where the eye is when it has scrolled by."""
    from rich.text import Text

    text = Text(no_wrap=True)
    text.append(report.dataset, "bold").append(f" in {report.root}\n\n" if report.root else "\n\n")
    if report.splits:
        text.append_text(_splits(report, width)).append("\n\n")
        text.append_text(_classes(report, width)).append("\n")
    for finding in reversed(report.findings):
        text.append("\n")
        for line in _finding(finding):
            text.append_text(line).append("\n")
    return text.append(f"\n{_summary(report)}.")


def _summary(report: DataReport) -> str:
    """``2 errors, 1 warning, no notes``"""
    return ", ".join(_amount(report.count(level), level) for level in ("error", "warning", "note"))


def _amount(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def _splits(report: DataReport, width: int) -> Text:
    columns = (
        Column("SPLIT"),
        Column("SAMPLES", right=True),
        Column("PUBLISHED", right=True),
        Column("READ", right=True),
        Column("SIZE"),
        Column("MEAN"),
        Column("DEVIATION"),
        Column("IGNORED %", right=True),
        Column("DATA"),
    )
    return table(columns, [_split(split) for split in report.splits], width)


def _split(split: SplitReport) -> Row:
    from segctl.data_record import letters

    labelled = sum(count.pixels for count in split.classes.values())
    pixels = labelled + split.ignored
    return Row(
        (
            split.name,
            str(split.samples),
            NOTHING if split.published is None else str(split.published),
            str(min(split.images, split.masks) if split.masks else split.images),
            _sizes(split),
            _channels(split.mean),
            _channels(split.deviation),
            output.percent(split.ignored / pixels) if pixels else NOTHING,
            letters(split.digest),
        )
    )


def _sizes(split: SplitReport) -> str:
    ends = [f"{size[0]}x{size[1]}" for size in (split.smallest, split.largest) if size]
    return " to ".join(dict.fromkeys(ends)) or NOTHING


def _channels(values: tuple[float, float, float] | None) -> str:
    return NOTHING if values is None else " ".join(f"{value:.3f}" for value in values)


def _classes(report: DataReport, width: int) -> Text:
    """For each class and split its share of the labelled pixels, and the images that it is in."""
    columns = [Column("CLASS")]
    for split in report.splits:
        columns += [Column(f"{split.name.upper()} %", right=True), Column("IMAGES", right=True)]
    names = dict.fromkeys(name for split in report.splits for name in split.classes)
    rows = [Row((name, *(cell for split in report.splits for cell in _class(split, name)))) for name in names]
    return table(columns, rows, width)


def _class(split: SplitReport, name: str) -> tuple[str, str]:
    count = split.classes.get(name)
    labelled = sum(each.pixels for each in split.classes.values())
    if count is None or not count.pixels:
        return NOTHING, NOTHING
    share = 100 * count.pixels / labelled
    return "< 0.01" if share < 0.005 else f"{share:.2f}", str(count.images)


def _finding(finding: Finding) -> Iterator[Text]:
    from rich.text import Text

    times = f" ({finding.count})" if finding.count > 1 else ""
    yield Text.assemble((finding.level, STYLES[finding.level]), ": ", (f"{finding.title}{times}", "bold"))
    for case in finding.cases[:SHOWN]:
        yield Text(f"  {_case(case)}")
    if finding.count > SHOWN:
        yield Text(f"  and {finding.count - SHOWN} more", "dim")
    if finding.hint:
        yield Text(f"  {finding.hint}", "italic")


def _case(case: Case) -> str:
    where = " ".join(part for part in (case.file, f"({case.split})" if case.split else "") if part)
    if case.file:
        return f"{where} {case.what}"
    return f"{case.split}: {case.what}" if case.split else case.what
