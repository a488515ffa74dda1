"""The frame of the losses that judge one map of logits at a time: options, auxiliary maps and class weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import inf

import torch
from torch import Tensor, nn

from segctl.errors import ConfigError

from .class_weights import ClassWeights, CountPixels, resolve
from .outputs import logits_maps

__all__ = ["MapLoss", "non_negative", "over", "weighted_mean"]


class MapLoss(nn.Module, ABC):
    """A loss of the main map of logits and, weighted, of each auxiliary one. A subclass writes `of_map`.

    That targets are classes or `ignore_index` is taken for granted: segctl checks each mask where it is read. Another
    value raises in some losses and is no class in others; to look for it here would wait for the device.

    Args:
        num_classes: Number of classes of the data set.
        ignore_index: The target value that is not trained on.
        class_pixels: Counts the pixels of each class in the training masks; called only where `class_weights` names a
            scheme.
        aux_weight: Weight of each auxiliary map of logits, beside 1 for the main one. Auxiliary are all further outputs
            of the model of shape (N, num_classes, h, w), whatever their names.
        class_weights: A weight for each class, in their order; or a scheme that computes them from the training masks:
            with p the share of a class, inverse_frequency is proportional to 1 / p, median_frequency is median(p) / p,
            enet is 1 / ln(1.02 + p) and erfnet 1 / ln(1.10 + p). By default all classes count the same.

    Raises:
        ConfigError: An option is out of its range, or there is not one weight for each class.
    """

    weight: Tensor | None

    def __init__(
        self,
        num_classes: int,
        ignore_index: int,
        class_pixels: CountPixels | None,
        *,
        aux_weight: float,
        class_weights: ClassWeights,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.aux_weight = non_negative("aux_weight", aux_weight)
        weights = resolve(class_weights, num_classes, class_pixels)
        # Not persistent: it follows from the options and the data.
        self.register_buffer("weight", None if weights is None else torch.tensor(weights), persistent=False)

    def forward(self, outputs: Tensor | Mapping[str, Tensor], target: Tensor) -> dict[str, Tensor]:
        """The terms whose sum is minimised.

        Args:
            outputs: Logits ``(N, num_classes, H, W)``, or a mapping with them as ``"out"`` and auxiliary ones beside.
            target: Class indices or `ignore_index`, ``(N, H, W)`` int64.

        Returns:
            Scalars in float32: ``"out"``, and each auxiliary map's own, already multiplied by `aux_weight`.
        """
        maps = logits_maps(outputs, target, self.num_classes)
        terms = {name: self.of_map(logits, target) for name, logits in maps.items()}
        # Also with weight 0: in distributed training each head must get a gradient.
        return {name: term if name == "out" else self.aux_weight * term for name, term in terms.items()}

    @abstractmethod
    def of_map(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of one map, a scalar.

        Args:
            logits: ``(N, num_classes, H, W)``, float32.
            target: ``(N, H, W)`` int64.
        """

    def valid(self, target: Tensor) -> Tensor:
        """Where a pixel is labelled: ``(N, H, W)`` bool."""
        return target != self.ignore_index

    def is_class(self, target: Tensor) -> Tensor:
        """Which class a pixel has: ``(N, C, H, W)`` bool, false everywhere at ignored pixels."""
        classes = torch.arange(self.num_classes, device=target.device)[:, None, None]
        return (target[:, None] == classes) & self.valid(target)[:, None]

    def class_weight(self, like: Tensor) -> Tensor:
        """The weight of each class, ``(C,)``: ones where none are set."""
        return like.new_ones(self.num_classes) if self.weight is None else self.weight.to(like)

    def pixel_weight(self, target: Tensor, like: Tensor) -> Tensor:
        """The weight of each pixel's class, ``(N, H, W)``; 0 at ignored pixels."""
        valid = self.valid(target)
        if self.weight is None:
            return valid.to(like.dtype)
        return self.weight.to(like)[torch.where(valid, target, 0)] * valid


def weighted_mean(values: Tensor, weights: Tensor, dim: int | None = None) -> Tensor:
    """The mean of `values`, each counted with its weight, over `dim` or all elements; 0 where the weights sum to 0."""
    return over((values * weights).sum(dim), weights.sum(dim))


def over(total: Tensor, weight: Tensor) -> Tensor:
    """`total` divided by `weight`; 0, with a gradient of 0, where that is 0."""
    return torch.where(weight > 0, total / torch.where(weight > 0, weight, 1), 0)


def non_negative(option: str, value: float) -> float:
    """`value`, the option of a loss.

    Raises:
        ConfigError: It is below 0, infinite or NaN.
    """
    if not 0 <= value < inf:
        raise ConfigError(f"loss.{option}: {value:g} is not a finite number, 0 or greater.")
    return value
