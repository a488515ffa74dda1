"""Online hard example mining: Shrivastava, Gupta and Girshick, "Training Region-based Object Detectors with Online Hard
Example Mining", 2016, https://arxiv.org/abs/1604.03540. For pixels: the "online bootstrapping" of Wu, Shen and van den
Hengel, "High-performance Semantic Segmentation Using Very Deep Fully Convolutional Networks", 2016,
https://arxiv.org/abs/1604.04339.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from segctl.errors import ConfigError

from .class_weights import ClassWeights, CountPixels
from .map_loss import MapLoss, weighted_mean

__all__ = ["OHEM"]


class OHEM(MapLoss):
    """Cross entropy over the hard pixels alone, those whose true class has a low probability.

    With a threshold, pixels are kept whose true class has a probability strictly below it; where these are too few, the
    bound is raised to the probability that follows the `min_kept` smallest for each image of the batch. Where even all
    pixels are too few, it is the largest probability, so that the most certain pixel is left out. Without a threshold,
    the `min_kept` hardest pixels for each image are kept. The pixels of a batch are judged together.

    The loss is the mean over the pixels that are kept (as in HRNet's and CCNet's code; mmsegmentation divides by all
    pixels, which makes the loss fall as pixels get easy). With class weights it is the weighted mean over these; which
    pixels are hard does not depend on the weights. Each auxiliary map is mined for itself. A batch without a labelled
    pixel gives 0.

    Args:
        threshold: Pixels whose true class has a probability below this are hard; null: those of the highest loss.
        min_kept: Pixels for each image of the batch on this process. Without a threshold: so many are kept. With one:
            where fewer are below it, the bound is the probability that follows the min_kept smallest. What equals the
            bound is not kept, so that equal pixels may leave fewer, or none.

    For the other options, and for what is raised, see `MapLoss`.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        class_pixels: CountPixels | None = None,
        *,
        threshold: float | None = 0.7,
        min_kept: int = 100_000,
        aux_weight: float = 0.4,
        class_weights: ClassWeights = None,
    ) -> None:
        super().__init__(num_classes, ignore_index, class_pixels, aux_weight=aux_weight, class_weights=class_weights)
        if threshold is not None and not 0 < threshold <= 1:
            raise ConfigError(f"loss.threshold: {threshold:g} is not a probability above 0.")
        if min_kept < 1:
            raise ConfigError(f"loss.min_kept: {min_kept} is not a number of pixels, 1 or greater.")
        self.threshold = threshold
        self.min_kept = min_kept

    def of_map(self, logits: Tensor, target: Tensor) -> Tensor:
        losses = F.cross_entropy(logits, target, ignore_index=self.ignore_index, reduction="none")
        kept = self._hard(losses.detach(), self.valid(target))
        return weighted_mean(losses, self.pixel_weight(target, logits) * kept)

    def _hard(self, losses: Tensor, valid: Tensor) -> Tensor:
        """Which pixels are kept: ``(N, H, W)`` bool, from the loss of each and whether it is labelled."""
        wanted = self.min_kept * len(losses)
        if self.threshold is None:
            return _highest(torch.where(valid, losses, -1.0), wanted) & valid
        probabilities = torch.exp(-losses)
        ascending = torch.where(valid, probabilities, torch.inf).flatten().sort().values
        # Ignored pixels are behind all others: with fewer labelled ones than wanted, the last of these is taken.
        last = (valid.sum() - 1).clamp(0, wanted)
        bound = ascending.gather(0, last[None]).clamp(min=self.threshold)  # an index of one number would wait for it
        return (probabilities < bound) & valid


def _highest(values: Tensor, count: int) -> Tensor:
    """Where the `count` highest values are; of equal ones the first."""
    order = values.flatten().argsort(descending=True, stable=True)
    is_high = torch.arange(values.numel(), device=values.device) < count
    return torch.zeros_like(is_high).scatter(0, order, is_high).view_as(values)
