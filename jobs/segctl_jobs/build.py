"""Puts together what a configuration names: data sets, model, loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from segctl import registry
from segctl.config.schema import Config, Plugin
from segctl.errors import ConfigError, DataError, PluginError
from segctl.plugin import DatasetInfo, SegmentationDataset, dataset_info

INITIAL_WEIGHTS = {"pretrained": False, "weights": None, "upsampling_weights": None}


def open_split(config: Config, split: str | None, *, training: bool) -> tuple[SegmentationDataset, DatasetInfo]:
    """Opens a split of the configured data set (its own training or evaluation split where `split` is None).

    Raises:
        DataError: The data are missing or faulty, or the split is empty.
    """
    facts = dataset_info(registry.find("datasets", config.dataset.name).load())
    chosen = split or (facts.train_split if training else facts.eval_split)
    dataset = registry.open_dataset(config.dataset, Path(config.data_root), chosen)
    if len(dataset) == 0:
        raise DataError(
            f"Split {chosen!r} of data set {config.dataset.name} is empty.", f"Look into {config.data_root}."
        )
    return dataset, dataset_info(dataset)


def create_model(plugin: Plugin, num_classes: int, *, from_checkpoint: bool) -> nn.Module:
    """Creates the model; with `from_checkpoint` without initial weights, which would only be overwritten."""
    if from_checkpoint:
        unset = {name: value for name, value in INITIAL_WEIGHTS.items() if name in plugin.options}
        plugin = plugin.model_copy(update={"options": {**plugin.options, **unset}})
    model: nn.Module = registry.create_model(plugin, num_classes)
    return model


def create_loss(config: Config, info: DatasetInfo, class_pixels: Callable[[], list[int]]) -> Callable[..., object]:
    loss: Callable[..., object] = registry.create_loss(
        config.loss, num_classes=len(info.classes), ignore_index=info.ignore_index, class_pixels=class_pixels
    )
    if isinstance(loss, nn.Module) and any(parameter.requires_grad for parameter in loss.parameters()):
        raise PluginError(
            f"Loss {config.loss.name} has parameters of its own, which would never be trained.",
            "What is learnt belongs into the model; its outputs reach the loss.",
        )
    return loss


def amp_dtype(setting: str, device: torch.device) -> torch.dtype | None:
    """The autocast type for `train.amp` on `device`, or None for full precision.

    Raises:
        ConfigError: fp16 on a CPU, whose gradients would vanish without a scaler for it.
    """
    if setting == "auto":
        return (
            torch.bfloat16
            if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
            else None
        )
    if setting == "fp16" and device.type == "cpu":
        raise ConfigError("train.amp: fp16 needs a GPU.", "Use bf16 or off on a CPU.")
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "off": None}[setting]


def memory_format(channels_last: bool, amp: torch.dtype | None, device: torch.device) -> torch.memory_format:
    """The order in memory of weights and images: channels last where that is wanted, but not in bf16 on a CPU.

    There oneDNN computes a wrong gradient of the weights of dilated depthwise convolutions (seen with torch 2.15, on
    maps of 24x32 and larger: off by more than the gradient itself, at times infinite); contiguous, it is right.
    """
    wrong = device.type == "cpu" and amp == torch.bfloat16
    return torch.channels_last if channels_last and not wrong else torch.contiguous_format
