"""A published checkpoint under the names of a model: `weights_match` decides, here it is read, told and written."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from segctl.config.schema import Plugin
from segctl.errors import ConfigError, WeightsError, listing
from segctl.results import Imported, WeightsEntry
from segctl.runs.files import replacing
from segctl_jobs import weights_file
from segctl_jobs.build import create_model
from segctl_jobs.weights_match import Match, Shape, classes_in, is_auxiliary, match, surplus
from segctl_jobs.weights_record import empty_model, of_other_options

__all__ = ["import_weights"]

log = logging.getLogger(__name__)

BY_SHAPES = ("by order", "by shape")
SEED = 0  # of what stays random, so that one command gives one file


def import_weights(
    file: Path,
    plugin: Plugin,
    out: Path,
    *,
    num_classes: int | None,
    partial: bool,
    version: str,
    on_report: Callable[[Imported], None],
) -> Imported:
    """Writes to `out` the state dict of the model that `plugin` describes, with the weights in `file`.

    Args:
        num_classes: Of the model; None: the number that the shapes in the file say.
        partial: Write it also where not all of the model is in the file.
        version: Of segctl, to be recorded in `out`.
        on_report: Called with the result before it is written or refused.

    Raises:
        WeightsError: The file cannot be read, is not of the model, or has not all of it and `partial` is not set; or
            `out` cannot be written.
        ConfigError: The number of classes is needed, but neither given nor in the file.
    """
    read = weights_file.read(file)
    report = _compare(read, plugin, num_classes, file, out, partial=partial)
    on_report(report)
    if all(entry.how in Imported.UNMATCHED for entry in report.entries):
        raise WeightsError(f"Nothing in {file} matches model {plugin.name}.", _OTHER_MODEL.format(plugin.name))
    if not report.complete and not partial:
        raise _of_something_else(report, read.state, plugin) or _incomplete(report, plugin)
    torch.manual_seed(SEED)
    model: nn.Module = create_model(plugin, report.num_classes, from_checkpoint=True)
    _refuse_what_is_no_weight(report, read.state, model.state_dict())
    _write(report, read.state, model, version)
    return report


def _compare(
    read: weights_file.WeightsFile, plugin: Plugin, num_classes: int | None, file: Path, out: Path, *, partial: bool
) -> Imported:
    offered = {name: tuple(value.shape) for name, value in read.state.items()}
    two, _ = _probe(plugin, 2)
    found = classes_in(offered, two, _probe(plugin, 3)[0])
    classes = found if num_classes is None else num_classes
    if classes is None:
        as_if = _compare(read, plugin, 2, file, out, partial=partial)
        raise _of_something_else(as_if, read.state, plugin) or ConfigError(
            f"The shapes in {file} do not say how many classes model {plugin.name} is to have.", "Give --num-classes."
        )
    wanted, classes_around = _probe(plugin, classes)
    # Matched as the file's number of classes wants it: what differs for that reason alone is then told by its name.
    as_in_file = wanted if found in (None, classes) else _probe(plugin, found)[0]
    matches, ambiguous = match(as_in_file, offered, classes_around)
    notices = list(read.notices)
    if partial:
        matches = _trusted(matches, wanted, notices)
    entries = tuple(_entry(name, shape, matches.get(name), ambiguous, offered) for name, shape in wanted.items())
    taken = {each.source for each in matches.values()}
    unused = tuple(name for name in offered if name not in taken)
    by_shapes = sum(entry.how in BY_SHAPES for entry in entries)
    if by_shapes:
        notices.append(f"{by_shapes} of {len(entries)} entries were matched by the order and shapes of the layers.")
    if read.model is None:
        notices.append(
            "A state dict does not tell dilations, strides, resizing or the input's normalisation: evaluate first."
        )
    else:
        notices += of_other_options(file, read.model, plugin, classes)
    return Imported(
        file=file,
        out=out,
        model={"name": plugin.name, **plugin.options},
        num_classes=classes,
        file_classes=found,
        entries=entries,
        unused=unused,
        surplus=surplus(matches, unused),
        notices=tuple(notices),
    )


def _probe(plugin: Plugin, num_classes: int) -> tuple[dict[str, Shape], dict[str, str]]:
    """Shapes of the model's state dict, without BatchNorm's counters, and the classes of the modules around each."""
    model = empty_model(plugin, num_classes)
    shapes = {
        name: tuple(value.shape)
        for name, value in model.state_dict().items()
        if not name.endswith(weights_file.COUNTER)
    }
    class_of = {path: type(module).__name__ for path, module in model.named_modules()}
    around = {
        name: ".".join(class_of.get(name[:end], "") for end, letter in enumerate(name) if letter == ".")
        for name in shapes
    }
    return shapes, around


def _trusted(matches: Mapping[str, Match], wanted: Mapping[str, Shape], notices: list[str]) -> dict[str, Match]:
    """Without what matches by shapes alone in a part of the model that does not match as a whole: it may be chance."""
    broken = {name.split(".")[0] for name in wanted if name not in matches}
    chance = {name for name, found in matches.items() if found.how in BY_SHAPES and name.split(".")[0] in broken}
    if chance:
        parts = listing(sorted({name.split(".")[0] for name in chance}))
        notices.append(
            f"{len(chance)} entries of {parts} match by shapes alone and were not taken: the rest there does not match."
        )
    return {name: found for name, found in matches.items() if name not in chance}


def _entry(
    name: str, shape: Shape, found: Match | None, ambiguous: frozenset[str], offered: Mapping[str, Shape]
) -> WeightsEntry:
    if found is None:
        if name in offered:
            return WeightsEntry(name, shape, "misshaped", name, offered[name])
        return WeightsEntry(name, shape, "ambiguous" if name in ambiguous else "missing")
    source_shape = offered[found.source]
    fits = torch.Size(shape).numel() == torch.Size(source_shape).numel()
    return WeightsEntry(name, shape, found.how if fits else "misshaped", found.source, source_shape)


_OTHER_MODEL = "Check --model and its options ('segctl plugins show {}')."


def _of_something_else(report: Imported, state: Mapping[str, Tensor], plugin: Plugin) -> WeightsError | None:
    """What to say of a file that holds but a backbone, or hardly anything, of the model; None where it holds more."""
    total = len(report.entries)
    number = total - len(report.of(*Imported.UNMATCHED))
    backbone = [entry for entry in report.entries if entry.name.startswith("backbone.")]
    rest = [entry for entry in report.entries if not entry.name.startswith("backbone.")]
    whole = all(entry.how not in Imported.UNMATCHED for entry in backbone)
    nothing_else = all(entry.how in (*Imported.UNMATCHED, *BY_SHAPES) for entry in rest)
    # An ImageNet classifier has linear layers beside the part that is taken; convolutions are a segmentation head's.
    taken = {entry.source.split(".")[0] for entry in backbone if entry.source is not None}
    no_head = all(state[name].dim() <= 2 or name.split(".")[0] in taken for name in report.unused)
    if backbone and rest and whole and nothing_else and no_head:
        start = f"Train with --model.weights {report.file}, which takes a backbone under torchvision's names; "
        return WeightsError(
            f"{report.file} has the backbone of model {plugin.name} alone: {number} of its {total} entries match.",
            f"{start if 'weights' in plugin.options else ''}--partial and --num-classes import one under any names.",
        )
    if 2 * number < total:
        matched = f"{number or 'none'} of its {total} entries match{'es' if number == 1 else ''}"
        return WeightsError(
            f"{report.file} is not of model {plugin.name}: {matched}.", _OTHER_MODEL.format(plugin.name)
        )
    return None


def _incomplete(report: Imported, plugin: Plugin) -> WeightsError:
    counts = Counter(entry.how for entry in report.entries)
    words = {"missing": "not in the file", "misshaped": "of another shape", "ambiguous": "ambiguous"}
    faults = [f"{counts[how]} {text}" for how, text in words.items() if counts[how]]
    what = f"of its {len(report.entries)} entries {listing(faults)}" if faults else ""
    more = f"the file has {len(report.surplus)} more beside them ({report.surplus[0]}, ...)" if report.surplus else ""
    told = "; ".join(filter(None, [what, more]))
    return WeightsError(f"{report.file} is not all of model {plugin.name}: {told}.", _way_out(report, plugin))


def _refuse_what_is_no_weight(report: Imported, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Of the entries that are taken; `own` are the model's."""
    taken = [
        (entry.name, entry.source, state[entry.source])
        for entry in report.entries
        if entry.source is not None and entry.how != "misshaped"
    ]
    real = [(name, source, value) for name, source, value in taken if own[name].is_floating_point()]
    converted = [(source, value.dtype) for _, source, value in real if not value.is_floating_point()]
    if converted:
        kind = str(converted[0][1]).removeprefix("torch.")
        raise WeightsError(
            f"{report.file} has {kind} instead of real numbers in {_first([name for name, _ in converted])}.",
            "It was converted or quantised: take the file with the weights as they were trained.",
        )
    spoilt = [source for _, source, value in taken if not value.isfinite().all()]
    if spoilt:
        raise WeightsError(
            f"{report.file} holds values that are infinite or not numbers, in {_first(spoilt)}.",
            "Its training went astray: take an earlier checkpoint.",
        )
    negative = [source for name, source, value in real if name.endswith("running_var") and (value < 0).any()]
    if negative:
        raise WeightsError(
            f"{report.file} has negative variances in {_first(negative)}.", "The file is damaged: take another."
        )


def _first(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _way_out(report: Imported, plugin: Plugin) -> str:
    unmatched = [entry.name for entry in report.of(*Imported.UNMATCHED)]
    if report.file_classes not in (None, report.num_classes) and len(unmatched) == len(report.of("misshaped")):
        return (
            f"It is for {report.file_classes} classes, not {report.num_classes}: --num-classes {report.file_classes} "
            "takes all of it, --partial all but these."
        )
    if unmatched and all(map(is_auxiliary, unmatched)) and not report.surplus and plugin.options.get("aux"):
        return "It has no auxiliary head: --model.aux false does without, --partial leaves it random."
    return f"{_OTHER_MODEL.format(plugin.name)} --partial takes what matches and leaves the rest random."


def _write(report: Imported, state: Mapping[str, Tensor], model: nn.Module, version: str) -> None:
    weights = model.state_dict()
    for entry in report.entries:
        if entry.source is not None and entry.how != "misshaped":
            weights[entry.name] = state[entry.source].reshape(entry.shape).to(weights[entry.name].dtype).contiguous()
    model.load_state_dict(weights)
    origin = {
        "version": version,
        "file": report.file.name,
        "model": report.model,
        "num_classes": report.num_classes,
        "random": [entry.name for entry in report.of(*Imported.UNMATCHED)],
    }
    try:
        with replacing(report.out) as target:
            torch.save({"model": weights, "segctl": origin}, target)
    except OSError as error:
        raise WeightsError(
            f"{report.out} cannot be written: {error.strerror or error}.", "Choose another file with -o."
        ) from error
