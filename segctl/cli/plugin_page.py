"""The page of ``segctl plugins show``: a plugin's own words, its options, and the facts it declares."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from segctl.plugin import dataset_info, model_traits

if TYPE_CHECKING:
    from rich.text import Text

    from segctl.options import Option
    from segctl.registry import PluginEntry


_COLORED = 40  # classes; the colours of more would fill the screen


@dataclass(frozen=True)
class Page:
    """A plugin as its author describes it; `facts` depend on the kind."""

    entry: PluginEntry
    description: str
    options: tuple[Option, ...]
    facts: Mapping[str, Any]

    def as_record(self) -> dict[str, Any]:
        options = [
            {
                "name": option.name,
                "type": option.type_text,
                "default": option.default,
                "required": option.required,
                "choices": list(option.choices),
                "help": option.help,
            }
            for option in self.options
        ]
        return {"description": self.description, "options": options, "facts": dict(self.facts)}


def read(entry: PluginEntry) -> Page:
    """Imports the plugin and reads it.

    Raises:
        PluginError: It cannot be imported, or its signature cannot be read.
    """
    from segctl.options import describe
    from segctl.registry import where

    factory = entry.load()
    return Page(entry, _description(factory), describe(factory, where(entry.kind)), _facts(entry.kind, factory))


def _description(factory: Any) -> str:
    """The docstring as far as its sections (``Args:``, ...), which the table of options repeats."""
    text = inspect.getdoc(factory) or ""
    return re.split(r"\n\s*\n?(?=(?:Args|Arguments|Attributes|Returns|Raises|Yields):\s*\n)", text)[0].strip()


def _facts(kind: str, factory: Any) -> dict[str, Any]:
    if kind == "models":
        traits = model_traits(factory)
        return {"loss": traits.loss, "loss_options": dict(traits.loss_options), "backbone": list(traits.backbone)}
    if kind == "datasets":
        return asdict(dataset_info(_declared(factory)))
    return {}


def _declared(factory: Any) -> Any:
    """The class without what it only knows once it is open (properties)."""
    names = [name for name in dir(factory) if not name.startswith("__")]
    values = {name: getattr(factory, name) for name in names}
    return type("Declared", (), {name: value for name, value in values.items() if not isinstance(value, property)})


def render(page: Page, width: int) -> Text:
    from rich.text import Text

    from segctl.registry import KIND_NAMES, where

    entry = page.entry
    text = Text(no_wrap=True)
    text.append(entry.name, "bold")
    text.append(f"  {KIND_NAMES[entry.kind]} of {entry.distribution} {entry.version}, {entry.target}\n")
    if page.description:
        text.append(f"\n{_reflowed(page.description, width)}\n")
    text.append("\nIt has no options.\n" if not page.options else "\n")
    for option in page.options:
        _append_option(text, where(entry.kind), option, width)
    facts = _shown_facts(page)
    longest = max((len(title) for title, _ in facts), default=0)
    for title, value in facts:
        text.append(f"\n{title.ljust(longest)}  ", "bold")
        lines = _lines(value, max(width - longest - 2, 20))
        text.append_text(Text(f"\n{' ' * (longest + 2)}").join(lines))
    if not facts:
        text.right_crop(1)
    return text


def _lines(value: str | Sequence[Text], width: int) -> list[Text]:
    """Filled to the width; what is a Text of its own is not broken."""
    from rich.text import Text

    if isinstance(value, str):
        return [Text(line) for line in textwrap.wrap(value, width)]
    lines = [value[0]]
    for piece in value[1:]:
        if lines[-1].cell_len + 1 + piece.cell_len > width:
            lines.append(piece)
        else:
            lines[-1] = Text.assemble(lines[-1], " ", piece)
    return lines


def _reflowed(description: str, width: int) -> str:
    """Paragraphs filled to the width; what is indented or a list stays as it is."""
    paragraphs = description.replace("``", "").split("\n\n")
    return "\n\n".join(
        paragraph if re.search(r"^(\s|[-*] )", paragraph, re.MULTILINE) else textwrap.fill(paragraph, min(width, 100))
        for paragraph in paragraphs
    )


def _append_option(text: Text, section: str, option: Option, width: int) -> None:
    default = "required" if option.required else f"default {_default(option)}"
    text.append(f"--{section}.{option.name}", "bold cyan")
    text.append(f"  {option.type_text}  ({default})\n")
    for line in textwrap.wrap(option.help.replace("``", ""), max(width - 4, 20)):
        text.append(f"    {line}\n")


def _default(option: Option) -> str:
    if option.default is None or isinstance(option.default, bool):
        return {None: "null", True: "true", False: "false"}[option.default]
    return str(option.default)


def _shown_facts(page: Page) -> list[tuple[str, str | list[Text]]]:
    facts = page.facts
    if page.entry.kind == "models":
        options = "".join(f", {name} {value}" for name, value in facts["loss_options"].items())
        return [("default loss", f"{facts['loss']}{options}")]
    if page.entry.kind != "datasets":
        return []
    shown = [
        ("classes", _classes(facts)),
        ("ignored value", str(facts["ignore_index"])),
        ("mirrored", ", ".join(f"{_class(facts, a)} becomes {_class(facts, b)}" for a, b in facts["flip_pairs"])),
        ("splits", _splits(facts["splits"])),
        ("no labels in", _splits(facts["unlabelled_splits"])),
        ("trained on", f"{facts['train_split']}, evaluated on {facts['eval_split']}"),
        ("files", ", ".join(facts["layout"])),
        *(("download" if not number else "", _archive(each)) for number, each in enumerate(facts["archives"])),
        ("licence", facts["licence"]),
        ("citation", facts["citation"]),
        ("homepage", facts["homepage"]),
    ]
    return [(title, value) for title, value in shown if value]


def _classes(facts: Mapping[str, Any]) -> str | list[Text]:
    """Each with the code of its colour, on that colour; of many the names alone."""
    from rich.text import Text

    classes = facts["classes"]
    if not classes:
        return "those of your data"
    if len(classes) > _COLORED:
        return f"{len(classes)}: {', '.join(classes)} (--json has their colours)"
    named = list(zip(classes, facts["palette"], strict=True))
    shown = [Text.assemble(f"{name} ", _swatch(color), ",") for name, color in named]
    shown[-1].right_crop(1)
    return [Text(f"{len(classes)}:"), *shown]


def _swatch(color: Sequence[int]) -> tuple[str, str]:
    """The code of a colour, and a style that shows it: legible on a terminal, and plain elsewhere."""
    code = "#{:02x}{:02x}{:02x}".format(*color)
    red, green, blue = color
    ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else "bright_white"
    return code, f"{ink} on {code}"


def _class(facts: Mapping[str, Any], index: int) -> str:
    return str(facts["classes"][index]) if index < len(facts["classes"]) else str(index)


def _splits(splits: Mapping[str, int | None] | None) -> str:
    return ", ".join(f"{name}{f' ({count})' if count is not None else ''}" for name, count in (splits or {}).items())


def _archive(facts: Mapping[str, Any]) -> str:
    """``"images.zip (1.2 GB) from https://..., after login"``."""
    if facts["manual"]:
        return str(facts["manual"])
    size = f" ({_bytes(facts['size'])})" if facts["size"] is not None else ""
    source = f" from {facts['url']}" if facts["url"] else ""
    login = ", after login" if facts["login"] else ""
    return f"{facts['file']}{size}{source}{login}"


def _bytes(size: int) -> str:
    if size < 1e6:
        return f"{size / 1e3:.0f} kB"
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"
