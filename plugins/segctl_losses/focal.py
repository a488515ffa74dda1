"""Focal loss: Lin et al., "Focal Loss for Dense Object Detection", 2017, https://arxiv.org/abs/1708.02002."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from segctl.errors import ConfigError

from .class_weights import ClassWeights, CountPixels
from .map_loss import MapLoss, non_negative, weighted_mean

__all__ = ["Focal"]


class Focal(MapLoss):
    """Cross entropy in which pixels count less the better they are predicted: ``-(1 - p)^gamma log p``.

    With softmax, p is the probability of a pixel's true class, and the loss is the mean over the pixels that are not
    ignored (with class weights the weighted mean); gamma 0 is the cross entropy. With sigmoid, as in the paper, each
    class is told from all others on its own: the loss is the mean over pixels and classes (with class weights the
    weighted mean over classes). The gradient flows through ``(1 - p)^gamma``. A batch without a labelled pixel gives 0.

    Args:
        gamma: How much less well predicted pixels count; 0: not at all less.
        activation: What makes probabilities of logits.
        alpha: With sigmoid, weight of a pixel for the class that it has; it is 1 - alpha for the others. The paper has
            0.25. By default both are 1.

    For the other options, and for what is raised, see `MapLoss`.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        class_pixels: CountPixels | None = None,
        *,
        gamma: float = 2.0,
        activation: Literal["softmax", "sigmoid"] = "softmax",
        alpha: float | None = None,
        aux_weight: float = 0.4,
        class_weights: ClassWeights = None,
    ) -> None:
        super().__init__(num_classes, ignore_index, class_pixels, aux_weight=aux_weight, class_weights=class_weights)
        if alpha is not None and activation == "softmax":
            raise ConfigError(
                "loss.alpha: it weighs a class against all others, which only the sigmoid does.",
                "Set loss.class_weights, or loss.activation to sigmoid.",
            )
        if alpha is not None and not 0 <= alpha <= 1:
            raise ConfigError(f"loss.alpha: {alpha:g} is not from 0 to 1.")
        self.gamma = non_negative("gamma", gamma)
        self.activation = activation
        self.alpha = alpha

    def of_map(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.activation == "sigmoid":
            return self._one_against_all(logits, target)
        losses = F.cross_entropy(logits, target, ignore_index=self.ignore_index, reduction="none")
        return weighted_mean(self._focused(losses), self.pixel_weight(target, logits))

    def _one_against_all(self, logits: Tensor, target: Tensor) -> Tensor:
        is_class = self.is_class(target)
        losses = self._focused(F.binary_cross_entropy_with_logits(logits, is_class.to(logits.dtype), reduction="none"))
        weight = self.class_weight(logits)[:, None, None] * self.valid(target)[:, None]
        if self.alpha is not None:
            losses = losses * torch.where(is_class, self.alpha, 1 - self.alpha)
        return weighted_mean(losses, weight)

    def _focused(self, losses: Tensor) -> Tensor:
        """``(1 - p)^gamma`` times the losses ``-log p``."""
        # 1 - p without cancellation, and above 0: there the derivative of a power below 1 is infinite.
        missed = -torch.expm1(-losses)
        return missed.clamp(min=1e-12) ** self.gamma * losses
