"""Pixel-wise cross entropy: class weights, label smoothing, auxiliary heads (PSPNet, Zhao et al. 2017, section 4)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from segctl.errors import ConfigError

from .class_weights import ClassWeights, CountPixels
from .map_loss import MapLoss, over

__all__ = ["CrossEntropy"]


class CrossEntropy(MapLoss):
    """Cross entropy, averaged over the pixels that are not ignored, with auxiliary heads.

    The mean is torch's: with class weights, the sum of the weighted pixels divided by the sum of their weights. A batch
    without a labelled pixel gives 0 and a gradient of 0, where `torch.nn.CrossEntropyLoss` gives NaN. Pixels of a class
    with the weight 0 have no influence, where torch's label smoothing adds to the sum for them, but not to the weights
    that divide it. Logits of another size than the target are resized to it, and all is computed in float32, also under
    autocast.

    Args:
        label_smoothing: Share of the target's probability that is spread evenly over all classes, from 0 to below 1.

    For the other options, and for what is raised, see `MapLoss`.
    """

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
        super().__init__(num_classes, ignore_index, class_pixels, aux_weight=aux_weight, class_weights=class_weights)
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"loss.label_smoothing: {label_smoothing:g} is not from 0 to below 1.")
        self.label_smoothing = label_smoothing

    def of_map(self, logits: Tensor, target: Tensor) -> Tensor:
        # Not reduced by torch: its mean over no pixel is NaN, and its sum over maps has no deterministic form on a GPU.
        pixels = F.cross_entropy(
            logits,
            target,
            None if self.weight is None else self.weight.to(logits),
            ignore_index=self.ignore_index,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )
        weight = self.pixel_weight(target, logits)
        return over((pixels * (weight > 0)).sum(), weight.sum())
