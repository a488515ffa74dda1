"""Tversky loss: Salehi, Erdogmus and Gholipour, "Tversky loss function for image segmentation using 3D fully
convolutional deep networks", 2017, https://arxiv.org/abs/1706.05721.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from segctl.errors import ConfigError

from .class_weights import ClassWeights, CountPixels
from .map_loss import MapLoss, non_negative, weighted_mean

__all__ = ["Tversky"]

_LEAST = 1e-7  # of a denominator, which is 0 for a class that is neither in the truth nor in the prediction


class Tversky(MapLoss):
    """1 minus the Tversky index of each class, averaged over classes.

    With the softmax's probabilities summed over all labelled pixels of the batch, a class has true positives TP, false
    positives FP and false negatives FN, and the index ``(TP + s) / (TP + alpha FP + beta FN + s)``. A class without a
    labelled pixel costs nothing. Alpha = beta = 0.5 is Dice, alpha = beta = 1 is the Jaccard index. A batch without a
    labelled pixel gives 0.

    Args:
        alpha: Weight of false positives.
        beta: Weight of false negatives; higher than alpha finds more of rare classes, at more false alarms.
        smooth: The s that is added to numerator and denominator.
        average: Over which classes the mean is taken: those that occur in the batch, or all, where those that do not
            count as 0.

    For the other options, and for what is raised, see `MapLoss`. Class weights make the mean a weighted one.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        class_pixels: CountPixels | None = None,
        *,
        alpha: float = 0.3,
        beta: float = 0.7,
        smooth: float = 0.0,
        average: Literal["present", "all"] = "present",
        aux_weight: float = 0.4,
        class_weights: ClassWeights = None,
    ) -> None:
        super().__init__(num_classes, ignore_index, class_pixels, aux_weight=aux_weight, class_weights=class_weights)
        self.alpha = non_negative("alpha", alpha)
        self.beta = non_negative("beta", beta)
        if alpha + beta == 0:
            raise ConfigError("loss.alpha and loss.beta are both 0, so nothing would be learnt.", "Raise one of them.")
        self.smooth = non_negative("smooth", smooth)
        self.average = average

    def of_map(self, logits: Tensor, target: Tensor) -> Tensor:
        is_class, probabilities = self.is_class(target), logits.softmax(1)
        predicted = torch.where(self.valid(target)[:, None], probabilities, 0).sum((0, 2, 3))
        hit = torch.where(is_class, probabilities, 0).sum((0, 2, 3))
        truth = is_class.sum((0, 2, 3))
        # TP + alpha FP + beta FN, with FP = predicted - TP and FN = truth - TP.
        whole = (1 - self.alpha - self.beta) * hit + self.alpha * predicted + self.beta * truth
        index = (hit + self.smooth) / (whole + self.smooth).clamp(min=_LEAST)
        present, weight = truth > 0, self.class_weight(logits)
        return weighted_mean((1 - index) * present, weight if self.average == "all" else weight * present)
