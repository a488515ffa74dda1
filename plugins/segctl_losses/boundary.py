"""Boundary loss: Bokhovkin and Burnaev, "Boundary Loss for Remote Sensing Imagery Semantic Segmentation", 2019,
https://arxiv.org/abs/1905.07852.

Of the published boundary losses this one needs nothing but logits and labels: the distance maps of Kervadec et al. 2019
(https://arxiv.org/abs/1812.07032) would have to be made for each augmented mask, on the CPU. It also is a score that
is used for evaluation (the boundary F1 measure), bounded, and comparable between classes of different size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from segctl.errors import ConfigError

from .class_weights import ClassWeights, CountPixels
from .map_loss import MapLoss, weighted_mean

__all__ = ["Boundary"]


class Boundary(MapLoss):
    """1 minus the boundary F1 measure of each class in each image, averaged over those with a boundary in the truth.

    A pixel lies on the boundary of its class where a pixel of another class is within the window `boundary`; of the
    softmax's probabilities, as much as these fall within it. Precision is the share of the predicted boundary
    that lies within the window `tolerance` of a true one, recall the share of the true one within that of a predicted
    one.

    The paper ignores nothing. Here an ignored pixel belongs to no class, so that a class ends where ignored pixels
    begin, as in the band that parts the objects of PASCAL VOC; and no boundary lies on an ignored pixel. Where no class
    has a boundary the loss is 0: it is meant to be trained beside another, see the loss `sum` (the paper adds it to an
    IoU loss).

    Takes memory for about eleven floats for each pixel and class: 1.8 GB for an image of 512x512 and 150 classes. Its
    gradient comes from `torch.nn.functional.max_pool2d`, whose backward has no deterministic form on a GPU.

    Args:
        boundary: Side of the window that makes boundaries, in pixels, odd; the paper's theta 0.
        tolerance: Side of the window within which boundaries count as the same, in pixels, odd; the paper's theta.

    For the other options, and for what is raised, see `MapLoss`. Class weights make the mean a weighted one.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        class_pixels: CountPixels | None = None,
        *,
        boundary: int = 3,
        tolerance: int = 5,
        aux_weight: float = 0.4,
        class_weights: ClassWeights = None,
    ) -> None:
        super().__init__(num_classes, ignore_index, class_pixels, aux_weight=aux_weight, class_weights=class_weights)
        self.boundary = _window("boundary", boundary)
        self.tolerance = _window("tolerance", tolerance)

    def of_map(self, logits: Tensor, target: Tensor) -> Tensor:
        valid = self.valid(target)[:, None]
        truth = self._boundary(self.is_class(target).to(logits.dtype), valid)
        predicted = self._boundary(logits.softmax(1), valid)
        precision = _share(predicted, within=_widened(truth, self.tolerance))
        recall = _share(truth, within=_widened(predicted, self.tolerance))
        f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-7)
        has_boundary = truth.flatten(2).any(2)
        return weighted_mean(1 - f1, self.class_weight(logits) * has_boundary)

    def _boundary(self, x: Tensor, valid: Tensor) -> Tensor:
        """How much each pixel belongs to the inner boundary of each class, from 0 to 1: ``(N, C, H, W)``."""
        others = torch.where(valid, 1 - x, 1)
        return torch.where(valid, _widened(others, self.boundary) - others, 0)


def _widened(x: Tensor, window: int) -> Tensor:
    return F.max_pool2d(x, window, stride=1, padding=window // 2)


def _share(x: Tensor, *, within: Tensor) -> Tensor:
    """The share of `x` where `within` is, for each image and class: ``(N, C)``.

    Below one pixel in all, it is the sum itself: the share of next to nothing would have a gradient beyond all bounds.
    """
    return (x * within).sum((2, 3)) / x.sum((2, 3)).clamp(min=1)


def _window(option: str, side: int) -> int:
    if side < 3 or side % 2 == 0:
        raise ConfigError(f"loss.{option}: {side} is not an odd number of pixels, 3 or greater.")
    return side
