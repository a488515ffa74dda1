"""ICNet's cascade label guidance: Zhao et al., "ICNet for Real-Time Semantic Segmentation on High-Resolution Images",
2018, https://arxiv.org/abs/1704.08545.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segctl.errors import ConfigError, PluginError, listing
from segctl.plugin import loss

from .class_weights import ClassWeights, CountPixels
from .cross_entropy import CrossEntropy
from .map_loss import non_negative

__all__ = ["ICNet"]


def _outputs(logits: Tensor) -> dict[str, Tensor]:
    height, width = logits.shape[-2:]
    levels = {f"sub{ratio}": (-(-height // ratio), -(-width // ratio)) for ratio in (4, 8, 16)}
    return {"out": logits, **{name: F.interpolate(logits, size) for name, size in levels.items()}}


@loss(outputs=_outputs)
class ICNet(nn.Module):
    """Cross entropy of ICNet's outputs at 1/4, 1/8 and 1/16 of the image, each against labels of its own size.

    The labels are reduced by nearest neighbour, pixel y of h being pixel floor(y H / h) of H: so no class appears that
    is not there, and ignored pixels stay ignored. Each term is the mean over its own labelled pixels, 0 where there are
    none. The output of full resolution is the one at 1/4, enlarged; it has no term.

    Args:
        num_classes: Number of classes of the data set.
        ignore_index: The target value that is not trained on.
        class_pixels: Counts the pixels of each class in the training masks; called only where `class_weights` names a
            scheme.
        sub4_weight: Weight of the output at 1/4.
        sub8_weight: Weight of the output at 1/8.
        sub16_weight: Weight of the output at 1/16.
        class_weights: A weight for each class, in their order; or a scheme that computes them from the training masks:
            with p the share of a class, inverse_frequency is proportional to 1 / p, median_frequency is median(p) / p,
            enet is 1 / ln(1.02 + p) and erfnet 1 / ln(1.10 + p). By default all classes count the same.

    Raises:
        ConfigError: An option is out of its range, sub4_weight is 0, or there is not one weight for each class.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        class_pixels: CountPixels | None = None,
        *,
        sub4_weight: float = 1.0,
        sub8_weight: float = 0.4,
        sub16_weight: float = 0.4,
        class_weights: ClassWeights = None,
    ) -> None:
        super().__init__()
        weights = {"sub4_weight": sub4_weight, "sub8_weight": sub8_weight, "sub16_weight": sub16_weight}
        self.weights = {name.removesuffix("_weight"): non_negative(name, value) for name, value in weights.items()}
        if sub4_weight == 0:
            raise ConfigError(
                "loss.sub4_weight: 0 would leave the output that is evaluated untrained.", "Give it a weight above 0."
            )
        self.cross_entropy = CrossEntropy(num_classes, ignore_index, class_pixels, class_weights=class_weights)

    def forward(self, outputs: Tensor | Mapping[str, Tensor], target: Tensor) -> dict[str, Tensor]:
        """The terms whose sum is minimised.

        Args:
            outputs: A mapping with logits ``(N, num_classes, h, w)`` as ``"sub4"``, ``"sub8"`` and ``"sub16"``, of any
                size; further ones have no term. The last two may be missing, where a model trains without them.
            target: Class indices or `ignore_index`, ``(N, H, W)`` int64.

        Returns:
            Scalars in float32, one for each output, already weighted.

        Raises:
            PluginError: The model did not return ``"sub4"``.
        """
        found = outputs if isinstance(outputs, Mapping) else {}
        if "sub4" not in found:
            raise PluginError(
                f"The loss icnet needs what the model icnet returns, {listing(self.weights)}, but this model returned "
                "no sub4.",
                "Use the loss cross_entropy, or the model icnet.",
            )
        levels = {name: weight for name, weight in self.weights.items() if name in found}
        return {name: weight * self._of_level(found[name], target) for name, weight in levels.items()}

    def _of_level(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.cross_entropy(logits, _reduced(target, logits.shape[-2:]))["out"]


def _reduced(target: Tensor, size: torch.Size) -> Tensor:
    """``(N, H, W)`` labels to ``(N, *size)``, by nearest neighbour in whole numbers."""
    rows, columns = (
        torch.arange(small, device=target.device) * large // small
        for small, large in zip(size, target.shape[-2:], strict=True)
    )
    return target[:, rows[:, None], columns]
