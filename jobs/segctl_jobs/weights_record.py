"""What a file of weights says about the model that they are of: a state dict alone tells no dilations and no strides.

`segctl weights import`, `segctl export --format safetensors` and checkpoints record the model's name and options.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from segctl.config.schema import Plugin
from segctl.errors import SegctlError, listing
from segctl_jobs.build import INITIAL_WEIGHTS, create_model

__all__ = ["empty_model", "of_other_options", "recorded", "recorded_as_json", "starting_notices"]

METADATA = "segctl"


def recorded(content: Any) -> Mapping[str, Any] | None:
    """The model's name and options, if what `torch.load` read was written by segctl."""
    if not isinstance(content, Mapping):
        return None
    record, config = content.get(METADATA), content.get("config")
    if not isinstance(record, Mapping) and isinstance(config, str):  # a run's checkpoint
        try:
            record = yaml.safe_load(config)
        except yaml.YAMLError:
            return None
    model = record.get("model") if isinstance(record, Mapping) else None
    return model if isinstance(model, Mapping) and isinstance(model.get("name"), str) else None


def recorded_as_json(text: str | None) -> Mapping[str, Any] | None:
    """The same of the metadata of a safetensors file."""
    try:
        return recorded({METADATA: json.loads(text or "null")})
    except ValueError:
        return None


def _differing_options(record: Mapping[str, Any], plugin: Plugin, num_classes: int) -> tuple[str, ...]:
    """Options with another value than the recorded one whose weights would fit all the same.

    Returns:
        Texts such as ``output_stride 8 instead of 16``, the recorded value first.
    """
    different = {
        name: record[name]
        for name, value in plugin.options.items()
        if name not in INITIAL_WEIGHTS and name in record and record[name] != value
    }
    own = _shapes(plugin, num_classes) if different else None
    told = []
    for name, value in different.items():
        other = plugin.model_copy(update={"options": {**plugin.options, name: value}})
        if _shapes(other, num_classes) in (own, None):
            told.append(f"{name} {value} instead of {plugin.options[name]}")
    return tuple(told)


def of_other_options(file: Path, record: Mapping[str, Any], plugin: Plugin, num_classes: int) -> tuple[str, ...]:
    """What to say of weights that fit `plugin`, but are of a model that computes something else with them."""
    if record["name"].rpartition(":")[2] != plugin.name.rpartition(":")[2]:
        return ()
    told = _differing_options(record, plugin, num_classes)
    if not told:
        return ()
    return (f"{file.name} is of {plugin.name} with {listing(told)}: the weights fit, the results differ.",)


def starting_notices(plugin: Plugin, num_classes: int) -> tuple[str, ...]:
    """What the user should know of the file that the option ``weights`` names; it has proved to fit.

    Args:
        plugin: The model.
        num_classes: Its number of classes.
    """
    file = plugin.options.get("weights")
    if not isinstance(file, str):
        return ()
    path = Path(file).expanduser()
    try:
        record = recorded(torch.load(path, map_location="meta", weights_only=True, mmap=True))
    except Exception:  # a plugin's own kind of file, or one of an old torch: neither has a record
        return ()
    return of_other_options(path, record, plugin, num_classes) if record is not None else ()


def empty_model(plugin: Plugin, num_classes: int) -> nn.Module:
    """The model for its names and shapes."""
    try:
        with torch.device("meta"):  # no memory, and no time for initial values
            return create_model(plugin, num_classes, from_checkpoint=True)
    except SegctlError:
        return create_model(plugin, num_classes, from_checkpoint=True)


def _shapes(plugin: Plugin, num_classes: int) -> dict[str, tuple[int, ...]] | None:
    """None: there is no such model."""
    try:
        model = empty_model(plugin, num_classes)
    except SegctlError:
        return None
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}
