"""EncNet's loss: Zhang et al., "Context Encoding for Semantic Segmentation", 2018, https://arxiv.org/abs/1803.08904,
section 3, "Semantic Encoding Loss".
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

from segctl.errors import PluginError, listing
from segctl.plugin import loss

from .class_weights import ClassWeights, CountPixels
from .cross_entropy import CrossEntropy
from .map_loss import non_negative
from .outputs import in_float32

__all__ = ["EncNet"]


def _outputs(logits: Tensor) -> dict[str, Tensor]:
    return {"out": logits, "aux": 0.5 * logits, "se": logits.new_zeros(logits.shape[:2])}


@loss(outputs=_outputs)
class EncNet(CrossEntropy):
    """Cross entropy with auxiliary heads, and a loss on which classes an image shows.

    For the latter a model returns ``"se"``, logits ``(N, num_classes)``. Their truth is 1 for each class that has a
    labelled pixel in the image, else 0; so a small object counts as much as a large one. The term is the mean of the
    binary cross entropy over images and classes. An image without a labelled pixel shows no class; a batch without one
    costs 0.

    Args:
        se_weight: Weight of the loss on the classes that an image shows.

    For the other options, and for what is raised, see `MapLoss`. Class weights do not touch this term.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        class_pixels: CountPixels | None = None,
        *,
        se_weight: float = 0.2,
        aux_weight: float = 0.4,
        class_weights: ClassWeights = None,
    ) -> None:
        super().__init__(num_classes, ignore_index, class_pixels, aux_weight=aux_weight, class_weights=class_weights)
        self.se_weight = non_negative("se_weight", se_weight)

    def forward(self, outputs: Tensor | Mapping[str, Tensor], target: Tensor) -> dict[str, Tensor]:
        """As `MapLoss.forward`, with the further term ``"se"``, already multiplied by `se_weight`.

        Raises:
            PluginError: The model returned no ``"se"``, or not one logit for each image and class.
        """
        terms = super().forward(outputs, target)
        return {**terms, "se": self.se_weight * self._of_presence(_presence(outputs), target)}

    def _of_presence(self, presence: Tensor, target: Tensor) -> Tensor:
        if presence.shape != (len(target), self.num_classes):
            raise PluginError(
                f"The model's 'se' has the shape {tuple(presence.shape)}; for {len(target)} images and "
                f"{self.num_classes} classes it must be ({len(target)}, {self.num_classes})."
            )
        presence = in_float32(presence)
        shown = self.is_class(target).flatten(2).any(2)
        mean = F.binary_cross_entropy_with_logits(presence, shown.to(presence.dtype))
        return mean * self.valid(target).any()


def _presence(outputs: Tensor | Mapping[str, Tensor]) -> Tensor:
    if not isinstance(outputs, Mapping) or "se" not in outputs:
        found = listing(outputs) if isinstance(outputs, Mapping) else "logits alone"
        raise PluginError(
            f"The loss encnet needs a model's 'se', logits (N, classes), but this one returned {found}.",
            "Use the model encnet, or the loss cross_entropy.",
        )
    return outputs["se"]
