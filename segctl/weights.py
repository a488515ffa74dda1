"""`segctl weights import`: a checkpoint that others published, under the names of a model of segctl."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from segctl import __version__, bridge
from segctl.config.load import resolve_model
from segctl.errors import ConfigError, WeightsError
from segctl.results import Imported, WeightsEntry
from segctl.runs.outputs import refuse_in_a_run

__all__ = ["Imported", "WeightsEntry", "import_weights"]


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
        out: The file to write: ``{"model": state dict, "segctl": where it comes from}``. An existing one is replaced,
            but for `file` itself.
        options: The model's options; strings are read as on the command line.
        num_classes: The model's number of classes; default: what the shapes in the file say.
        partial: Write also what is not complete; the rest of the model has its random initial weights then.
        on_report: Called with the result before it is written or refused.

    Raises:
        WeightsError: The file cannot be read, or not all of the model is in it and `partial` is not set; or `out`
            is `file` or cannot be written.
        RunError: `out` is among a run's own files.
        ConfigError: An option is not acceptable.
        PluginError: There is no such model, or it cannot be made.
    """
    flags = {"model": model, **{f"model.{name}": value for name, value in (options or {}).items()}}
    plugin = resolve_model(flags)
    if plugin.options.get("weights") is not None:
        raise ConfigError("model.weights: the weights are those of the file that is imported.", "Leave it out.")
    source, target = Path(file).expanduser(), Path(out).expanduser()
    refuse_in_a_run(target)
    if target.is_dir() or not target.parent.is_dir():
        reason = "it is a folder" if target.is_dir() else f"there is no folder {target.parent}"
        raise WeightsError(f"{target} cannot be written: {reason}.", "Choose another file with -o.")
    if source.exists() and target.exists() and os.path.samefile(source, target):  # also through links
        raise WeightsError(
            f"{target} is the file that is imported; it is not replaced.", "Choose another file with -o."
        )
    return bridge.import_weights(
        source,
        plugin,
        target,
        num_classes=num_classes,
        partial=partial,
        version=__version__,
        on_report=on_report or (lambda found: None),
    )
