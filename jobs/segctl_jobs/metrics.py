"""Counting first, ratios last: an int64 confusion matrix, summed over images and processes, and what is read off it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

__all__ = ["confusion_matrix", "summarize"]


def confusion_matrix(
    target: torch.Tensor, prediction: torch.Tensor, num_classes: int, ignore_index: int | None = None
) -> torch.Tensor:
    """Counts how often each true class was predicted as each class, on the tensors' own device.

    Args:
        target: True classes, any shape, any integer dtype. A pixel whose value is `ignore_index` or is outside
            ``0..C-1`` is not counted.
        prediction: Predicted classes in ``0..C-1``, of the same shape.
        num_classes: C.
        ignore_index: Needed only where the ignored value lies inside ``0..C-1``.

    Returns:
        ``(C, C)`` int64; rows are the truth, columns the prediction.
    """
    target = target.reshape(-1)
    valid = (target >= 0) & (target < num_classes)
    if ignore_index is not None and 0 <= ignore_index < num_classes:
        valid &= target != ignore_index
    pairs = target[valid].long() * num_classes + prediction.reshape(-1)[valid].long()
    return torch.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def summarize(confusion: np.ndarray | torch.Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """The usual measures of semantic segmentation, as fractions of one.

    ``miou`` and ``mean_dice`` are means over the classes that occur in the truth or in the prediction: one that is
    predicted but never true counts as 0, one that is neither does not count at all. ``mean_accuracy`` is the mean over
    the classes that occur in the truth. (Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic
    Segmentation", section 5; absent classes as in the PASCAL VOC development kit.)

    Args:
        confusion: ``(C, C)`` integer counts, rows are the truth.
        classes: The C class names.

    Returns:
        A dict that can be written as JSON; what is not defined (the accuracy of a class without truth) is None:
        ``miou``, ``pixel_accuracy``, ``mean_accuracy``, ``frequency_weighted_iou``, ``mean_dice``, ``pixels``
        (counted), and ``per_class``, a list of ``{"name", "iou", "accuracy", "dice", "pixels", "predicted_pixels"}``.
    """
    counts = np.asarray(confusion, dtype=np.int64)
    hits, truth, predicted = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    total = int(counts.sum())
    iou = _ratio(hits, truth + predicted - hits)
    accuracy = _ratio(hits, truth)
    dice = _ratio(2 * hits, truth + predicted)
    return {
        "miou": _mean(iou),
        "pixel_accuracy": _number(_ratio(hits.sum(), counts.sum())),
        "mean_accuracy": _mean(accuracy),
        "frequency_weighted_iou": float((truth / total * np.nan_to_num(iou)).sum()) if total else None,
        "mean_dice": _mean(dice),
        "pixels": total,
        "per_class": [
            {
                "name": name,
                "iou": _number(iou[index]),
                "accuracy": _number(accuracy[index]),
                "dice": _number(dice[index]),
                "pixels": int(truth[index]),
                "predicted_pixels": int(predicted[index]),
            }
            for index, name in enumerate(classes)
        ],
    }


def _ratio(part: Any, whole: Any) -> np.ndarray:
    """part / whole in float64, NaN where whole is 0."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


def _mean(values: np.ndarray) -> float | None:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else None
