"""HRNetV2: Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition", 2020,
https://arxiv.org/abs/1908.07919; the head is that of section 3.4, Figure 5 (b), and of section 5.

With 21 classes there are 9,641,661 (W18) and 65,860,821 (W48) parameters, as many as in the authors' release.
"""

from __future__ import annotations

from torch import Tensor, nn

from . import backbones
from .backbones.hrnet import HRNetName
from .backbones.weights import initialise
from .layers.conv import ConvNormAct
from .layers.resize import resize, resize_and_concat

__all__ = ["HRNetV2", "hrnet", "representation_head"]


class HRNetV2(nn.Module):
    """All streams, resized to the highest resolution, mixed by a 1x1 convolution and classified by another.

    Args:
        backbone: Feature extractor whose last four feature maps are the streams.
        num_classes: Number of classes C.

    `forward` maps images ``(N, 3, H, W)`` to ``{"out": (N, C, H, W)}``.
    """

    def __init__(self, backbone: nn.Module, num_classes: int) -> None:
        super().__init__()
        channels = sum(backbone.channels[-4:])
        self.backbone = backbone
        self.last_layer = representation_head(channels, num_classes)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        representation = resize_and_concat(self.backbone(image)[-4:])
        return {"out": resize(self.last_layer(representation), image.shape[-2:])}


def representation_head(channels: int, num_classes: int) -> nn.Sequential:
    """A 1x1 convolution that mixes the streams and one that classifies them: ``(N, channels, h, w)`` to logits."""
    return nn.Sequential(*ConvNormAct(channels, channels, 1, bias=True), nn.Conv2d(channels, num_classes, 1))


def hrnet(num_classes: int, *, backbone: HRNetName = "hrnet_w18", weights: str | None = None) -> nn.Module:
    """HRNetV2: streams of four resolutions from beginning to end, exchanging what they see.

    Args:
        num_classes: Number of classes.
        backbone: Feature extractor; after w comes the width of its stream of highest resolution.
        weights: A local file to start from: a state dict of the whole model, of its backbone, or of the authors' or
            timm's ImageNet classifier; torchvision has none.

    Raises:
        WeightsError: The weights cannot be read, or do not fit.
    """
    return initialise(HRNetV2(backbones.create(backbone), num_classes), weights=weights)
