"""Soft Dice loss: Milletari, Navab and Ahmadi, "V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image
Segmentation", 2016, https://arxiv.org/abs/1606.04797, section 3, for several classes.
"""

from __future__ import annotations

from typing import Literal

from .class_weights import ClassWeights, CountPixels
from .tversky import Tversky

__all__ = ["Dice"]


class Dice(Tversky):
    """1 minus the Dice coefficient of each class, averaged over classes.

    With p the softmax's probabilities and t the truth, both summed over all labelled pixels of the batch, the
    coefficient of a class is ``(sum p t + s) / ((sum p + sum t) / 2 + s)``: the denominator has no squares, unlike
    V-Net's. A class without a labelled pixel costs nothing; a batch without one gives 0.

    It is the loss `Tversky` with alpha = beta = 0.5, and has its other options.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        class_pixels: CountPixels | None = None,
        *,
        smooth: float = 0.0,
        average: Literal["present", "all"] = "present",
        aux_weight: float = 0.4,
        class_weights: ClassWeights = None,
    ) -> None:
        super().__init__(
            num_classes,
            ignore_index,
            class_pixels,
            alpha=0.5,
            beta=0.5,
            smooth=smooth,
            average=average,
            aux_weight=aux_weight,
            class_weights=class_weights,
        )
