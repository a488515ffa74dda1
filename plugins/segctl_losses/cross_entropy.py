"""Pixel-wise cross entropy: class weights, label smoothing, auxiliary heads (PSPNet, Zhao et al. 2017, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segctl.errors import ConfigError

from .class_weights import ClassWeights, CountPixels, resolve
from .outputs import logits_maps


class CrossEntropy(nn.Module):
    """Cross entropy, averaged over the pixels that are not ignored, with auxiliary heads.

    The mean is torch's: with class weights, the sum of the weighted pixels divided by the sum of their weights. A batch
    without a labelled pixel gives 0 and a gradient of 0, where `torch.nn.CrossEntropyLoss` gives NaN. Logits of another
    size than the target are resized to it, and all is computed in float32, also under autocast.

    Args:
        num_classes: Number of classes of the data set.
        ignore_index: The target value that is not trained on.
        class_pixels: Counts the pixels of each class in the training masks; called only where `class_weights` names a
            scheme.
        aux_weight: Weight of each auxiliary map of logits, beside 1 for the main one. Auxiliary are all further outputs
            of the model of shape (N, num_classes, h, w), whatever their names.
        class_weights: A weight for each class, in their order; or a scheme that computes them from the training masks:
            with p the share of a class, inverse_frequency is proportional to 1 / p, median_frequency is median(p) / p,
            and enet is 1 / ln(1.02 + p). By default all classes count the same.
        label_smoothing: Share of the target's probability that is spread evenly over all classes, from 0 to below 1.

    Raises:
        ConfigError: An option is out of its range, or there is not one weight for each class.
    """

    weight: Tensor | None

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        class_pixels: CountPixels | None = None,
        *,
        aux_weight: float = 0.4,
        class_weights: ClassWeights = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= aux_weight < inf:
            raise ConfigError(f"loss.aux_weight: {aux_weight:g} is not a finite number, 0 or greater.")
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"loss.label_smoothing: {label_smoothing:g} is not from 0 to below 1.")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.aux_weight = aux_weight
        self.label_smoothing = label_smoothing
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
        weight = None if self.weight is None else self.weight.to(maps["out"])
        total = self._total_weight(target, weight)
        terms = {name: self._mean(logits, target, weight, total) for name, logits in maps.items()}
        return {name: term if name == "out" else self.aux_weight * term for name, term in terms.items()}

    def _total_weight(self, target: Tensor, weight: Tensor | None) -> Tensor:
        valid = target != self.ignore_index
        if weight is None:
            return valid.sum()
        return (weight[torch.where(valid, target, 0)] * valid).sum()

    def _mean(self, logits: Tensor, target: Tensor, weight: Tensor | None, total: Tensor) -> Tensor:
        # Not reduced by torch: its mean over no pixel is NaN, and its sum over maps has no deterministic form on a GPU.
        pixels = F.cross_entropy(
            logits,
            target,
            weight,
            ignore_index=self.ignore_index,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )
        return pixels.sum() / torch.where(total > 0, total, 1)
