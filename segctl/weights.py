"""`segctl weights import`: a checkpoint that others published, under the names of a model of segctl."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from segctl import __version__, bridge
from segctl.config.load import resolve_model
from segctl.errors import ConfigError, WeightsError

__all__ = ["Imported", "WeightsEntry", "import_weights"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class WeightsEntry:
    """What became of one entry of the model's state dict.

    Attributes:
        name: Its name in the model.
        shape: Its shape in the model.
        how: One of `Imported.WAYS`.
        source: The file's entry that it is taken from, or that has its name but not its shape; else None.
        source_shape: That entry's shape.
    """

    name: str
    shape: Shape
    how: str
    source: str | None = None
    source_shape: Shape | None = None


@dataclass(frozen=True)
class Imported:
    """How a file's entries and a model's belong together.

    Attributes:
        file: The file that was read.
        out: What is written from it.
        model: The model plugin's name and options.
        num_classes: The model's number of classes.
        entries: Every entry of the model, in its order; BatchNorm's counters of steps are left out.
        unused: The file's entries that no entry of the model took.
        surplus: Those of them that stand between used ones: the file's model has more layers there than this one.
        notices: What the user should know although nothing is wrong.
    """

    WAYS: ClassVar[tuple[str, ...]] = ("exact", "renamed", "by order", "by shape", "ambiguous", "misshaped", "missing")
    """``exact``: the same name. ``renamed``: the same names below another prefix. ``by order``: the same sequence of
    layers, of the same shapes, under other names. ``by shape``: the only one of its shape. ``ambiguous``: there are
    several of its shape and nothing tells which. ``misshaped``: the name is there with another shape. ``missing``."""

    file: Path
    out: Path
    model: Mapping[str, Any]
    num_classes: int
    entries: tuple[WeightsEntry, ...]
    unused: tuple[str, ...]
    surplus: tuple[str, ...]
    notices: tuple[str, ...]

    def of(self, how: str) -> tuple[WeightsEntry, ...]:
        return tuple(entry for entry in self.entries if entry.how == how)

    @property
    def complete(self) -> bool:
        """Whether all of the model is in the file, and no more inside of what matches."""
        return not self.surplus and not any(self.of(how) for how in ("ambiguous", "misshaped", "missing"))


def import_weights(
    file: str | Path,
    model: str,
    *,
    out: str | Path,
    options: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    partial: bool = False,
    on_report: Callable[[Imported], None] | None = None,
) -> Imported:
    """Writes the weights in `file` under the names of a model, as a file for its option ``weights``.

    Matches by name first, then by renamed prefixes, then by the order and shapes of the layers; no code of the file is
    run, and nothing is matched where several entries would do equally well.

    Args:
        file: What `torch.save` wrote (a state dict, or one inside of the usual containers), or a safetensors file.
        model: Name of a model plugin.
        out: The file to write: ``{"model": state dict, "segctl": where it comes from}``. An existing one is replaced.
        options: The model's options; strings are read as on the command line.
        num_classes: The model's number of classes; default: what the shapes in the file say.
        partial: Write also what is not complete; the rest of the model has its random initial weights then.
        on_report: Called with the result before it is written or refused.

    Raises:
        WeightsError: The file cannot be read, or not all of the model is in it and `partial` is not set; or `out`
            cannot be written.
        ConfigError: An option is not acceptable.
        PluginError: There is no such model, or it cannot be made.
    """
    flags = {"model": model, **{f"model.{name}": value for name, value in (options or {}).items()}}
    plugin = resolve_model(flags)
    if plugin.options.get("weights") is not None:
        raise ConfigError("model.weights: the weights are those of the file that is imported.", "Leave it out.")
    source, target = Path(file).expanduser(), Path(out).expanduser()
    if target.is_dir() or not target.parent.is_dir():
        reason = "it is a folder" if target.is_dir() else f"there is no folder {target.parent}"
        raise WeightsError(f"{target} cannot be written: {reason}.", "Choose another file with -o.")

    def wrapped(found: Any) -> Imported:
        entries = tuple(WeightsEntry(*(getattr(each, f.name) for f in fields(WeightsEntry))) for each in found.entries)
        description = {"name": plugin.name, **plugin.options}
        return Imported(
            source, target, description, found.num_classes, entries, found.unused, found.surplus, found.notices
        )

    def report(found: Any) -> None:
        if on_report is not None:
            on_report(wrapped(found))

    return wrapped(
        bridge.import_weights(
            source, plugin, target, num_classes=num_classes, partial=partial, version=__version__, on_report=report
        )
    )
