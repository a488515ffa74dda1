"""The frame of most architectures: a backbone, a head on its last feature map, an auxiliary one on the last but one."""

from __future__ import annotations

from torch import Tensor, nn

from .resize import resize

__all__ = ["Segmenter"]


class Segmenter(nn.Module):
    """Joins a backbone and its heads; parameters are named as in torchvision's segmentation models.

    Args:
        backbone: Maps images ``(N, 3, H, W)`` to a sequence of feature maps, the deepest last.
        classifier: Maps the last feature map to logits of its size.
        aux_classifier: Maps the last feature map but one to logits. It is there for the loss (PSPNet, Zhao et al. 2017,
            section 3.3) and therefore only computed in training.
        aux_feature: Index of the feature map that the auxiliary head reads instead.

    `forward` gives ``{"out": (N, C, H, W)}``, in training with an auxiliary head also ``"aux"`` of that shape.
    """

    def __init__(
        self,
        backbone: nn.Module,
        classifier: nn.Module,
        aux_classifier: nn.Module | None = None,
        *,
        aux_feature: int = -2,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier
        self.aux_classifier = aux_classifier
        self.aux_feature = aux_feature

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        size = image.shape[-2:]
        features = self.backbone(image)
        outputs = {"out": resize(self.classifier(features[-1]), size)}
        if self.training and self.aux_classifier is not None:
            outputs["aux"] = resize(self.aux_classifier(features[self.aux_feature]), size)
        return outputs
