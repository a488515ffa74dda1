"""Lovász-Softmax: Berman, Rannen Triki and Blaschko, "The Lovász-Softmax loss: A tractable surrogate for the
optimization of the intersection-over-union measure in neural networks", 2018, https://arxiv.org/abs/1705.08790.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .class_weights import ClassWeights, CountPixels
from .map_loss import MapLoss, weighted_mean

__all__ = ["Lovasz"]


class Lovasz(MapLoss):
    """The Lovász extension of 1 minus the Jaccard index (IoU), averaged over the classes that occur.

    For each class the errors ``|t - p|`` of the softmax's probabilities p are sorted; each counts as much as the
    Jaccard index would fall if its pixel, after all with larger errors, became wrong (section 3, algorithm 1). The
    paper trains with cross entropy first or beside it: see the loss `sum`.

    Takes memory for about eleven floats for each pixel and class: 1.8 GB for an image of 512x512 and 150 classes.

    Args:
        per_image: Whether each image has an IoU of its own, averaged over those with a labelled pixel, instead of one
            over the batch.

    For the other options, and for what is raised, see `MapLoss`. Class weights make the mean a weighted one.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        class_pixels: CountPixels | None = None,
        *,
        per_image: bool = False,
        aux_weight: float = 0.4,
        class_weights: ClassWeights = None,
    ) -> None:
        super().__init__(num_classes, ignore_index, class_pixels, aux_weight=aux_weight, class_weights=class_weights)
        self.per_image = per_image

    def of_map(self, logits: Tensor, target: Tensor) -> Tensor:
        truth, valid = self.is_class(target), self.valid(target)[:, None]
        probabilities = logits.softmax(1)
        # An ignored pixel has the error 0: it is sorted behind all others and multiplied by 0.
        errors = torch.where(truth, 1 - probabilities, torch.where(valid, probabilities, 0))
        errors, truth = self._sets(errors), self._sets(truth)
        losses = (errors * _jaccard_gradient(errors.detach(), truth)).sum(2)
        present, weight = truth.any(2), self.class_weight(logits)
        of_set = weighted_mean(losses, weight * present, dim=1)
        return weighted_mean(of_set, present.any(1).to(of_set.dtype))

    def _sets(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to ``(sets, C, P)``: the pixels of each image, or of all in one set."""
        return x.flatten(2) if self.per_image else x.transpose(0, 1).flatten(1)[None]


@torch.no_grad()
def _jaccard_gradient(errors: Tensor, truth: Tensor) -> Tensor:
    """How much the Jaccard loss rises at each pixel, in the order of falling errors: algorithm 1, for all classes.

    The algorithm subtracts neighbouring values of the loss, which in float32 cancel where there are many pixels. With I
    the intersection and U the union after a pixel, the differences are ``1 / U`` where it belongs to the class (it
    leaves the intersection) and ``I / (U (U - 1))`` where not (it joins the union).

    Args:
        errors: ``(sets, C, P)``.
        truth: Of the same shape, bool.
    """
    order = errors.argsort(2, descending=True)
    truth = truth.gather(2, order)
    found = truth.cumsum(2, dtype=torch.int32)
    intersection = found[..., -1:] - found
    union = found[..., -1:] + torch.arange(1, truth.shape[2] + 1, dtype=torch.int32, device=found.device) - found
    union = union.to(errors.dtype)
    rise = torch.where(truth, 1 / union, intersection / (union * (union - 1).clamp(min=1)))
    return torch.zeros_like(errors).scatter(2, order, rise)
