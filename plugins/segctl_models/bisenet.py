"""BiSeNet: Yu, Wang, Peng, Gao, Yu and Sang, "BiSeNet: Bilateral Segmentation Network for Real-time Semantic
Segmentation", 2018, https://arxiv.org/abs/1808.00897. The section numbers below are the paper's.

Where the paper is silent, the first version of https://github.com/CoinCheung/BiSeNet is followed, whose number of
parameters is matched:

- Before an attention refinement module, a 3x3 convolution brings the backbone's features to 128 channels; behind each
  upsampling of the context path stands another. That upsampling repeats the nearest value.
- The spatial path's first convolution is 7x7, and a fourth one, 1x1, brings it to the context path's 128 channels.
- In front of the classifier is a 3x3 convolution of 256 channels, of 64 in the auxiliary heads.

That release activates with leaky ReLUs (of in-place batch normalisation). Here they are the paper's ReLUs. The paper's
Xception39 is not offered: its weights were never published.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segctl import plugin

from . import backbones
from .backbones.weights import initialise
from .layers.conv import ConvNormAct
from .layers.pooling import ImagePooling
from .layers.resize import resize

__all__ = ["AttentionRefinement", "BiSeNet", "FeatureFusion", "bisenet"]


class BiSeNet(nn.Module):
    """Spatial path and context path, fused and classified at an eighth of the image's size (section 3.3, Figure 2).

    Args:
        backbone: Maps images to feature maps, of which the last three have the strides 8, 16 and 32.
        num_classes: Number of classes C.
        aux: Whether to supervise the context path at two depths in training.

    `forward` maps images ``(N, 3, H, W)`` to ``{"out": (N, C, H, W)}``, in training with `aux` also ``"aux8"`` and
    ``"aux16"``: logits at about an eighth and a sixteenth of the image's size.
    """

    def __init__(self, backbone: nn.Module, num_classes: int, *, aux: bool = True) -> None:
        super().__init__()
        self.backbone = backbone
        self.context_path = ContextPath(backbone.channels[-2:])
        self.spatial_path = SpatialPath()
        self.fusion = FeatureFusion(256, 256)
        self.classifier = _head(256, 256, num_classes)
        self.aux8 = _head(128, 64, num_classes) if aux else None
        self.aux16 = _head(128, 64, num_classes) if aux else None

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        spatial = self.spatial_path(image)
        *_, stage16, stage32 = self.backbone(image)
        context8, context16 = self.context_path(stage16, stage32, spatial.shape[-2:])
        outputs = {"out": resize(self.classifier(self.fusion(spatial, context8)), image.shape[-2:])}
        if self.training and self.aux8 is not None and self.aux16 is not None:
            outputs["aux8"] = self.aux8(context8)
            outputs["aux16"] = self.aux16(context16)
        return outputs


class SpatialPath(nn.Sequential):
    """Section 3.1: three convolutions of stride 2 keep the details. ``(N, 3, H, W)`` to ``(N, 128, H/8, W/8)``."""

    def __init__(self) -> None:
        super().__init__(
            ConvNormAct(3, 64, 7, stride=2),
            ConvNormAct(64, 64, stride=2),
            ConvNormAct(64, 64, stride=2),
            ConvNormAct(64, 128, 1),
        )


class ContextPath(nn.Module):
    """Section 3.2: the backbone's last two stages, each refined, and the global average of the last ("tail").

    Args:
        channels: Channels of the stages of stride 16 and 32.

    `forward` takes those stages and the size of the result (h, w), and gives the context ``(N, 128, h, w)``, and the
    one before it, of the size of the stage of stride 16.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.tail = ImagePooling(channels[1], 128)
        self.refine16 = AttentionRefinement(channels[0], 128)
        self.refine32 = AttentionRefinement(channels[1], 128)
        self.conv8 = ConvNormAct(128, 128)
        self.conv16 = ConvNormAct(128, 128)

    def forward(self, stage16: Tensor, stage32: Tensor, size: torch.Size) -> tuple[Tensor, Tensor]:
        context = self.refine32(stage32) + self.tail(stage32)
        context16 = self.conv16(F.interpolate(context, size=stage16.shape[-2:], mode="nearest"))
        context = self.refine16(stage16) + context16
        return self.conv8(F.interpolate(context, size=size, mode="nearest")), context16


class AttentionRefinement(nn.Module):
    """Section 3.2, Figure 2b: features weighted by what their global average makes of them.

    The average goes through a 1x1 convolution, normalisation and a sigmoid. A ReLU before the sigmoid, as some versions
    have it, would keep every weight at 0.5 or above.

    Maps ``(N, in, h, w)`` to ``(N, out, h, w)``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ConvNormAct(in_channels, out_channels)
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            ConvNormAct(out_channels, out_channels, 1, act=nn.Sigmoid),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * self.attention(x)


class FeatureFusion(nn.Module):
    """Section 3.3, Figure 2c: the paths' features concatenated, balanced by normalisation, and weighted like SENet's.

    Maps two of ``(N, in / 2, h, w)`` to ``(N, out, h, w)``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ConvNormAct(in_channels, out_channels, 1)
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(out_channels, out_channels // 4, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(out_channels // 4, out_channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        x = self.conv(torch.cat([spatial, context], dim=1))
        return x + x * self.attention(x)


def _head(in_channels: int, channels: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(ConvNormAct(in_channels, channels), nn.Conv2d(channels, num_classes, 1, bias=False))


# Section 3.3, loss function: alpha, the weight of the auxiliary losses, is 1.
@plugin.model(loss="cross_entropy", loss_options={"aux_weight": 1.0})
def bisenet(
    num_classes: int,
    *,
    backbone: backbones.PyramidName = "resnet18",
    aux: bool = True,
    pretrained: bool = False,
    weights: str | None = None,
) -> nn.Module:
    """BiSeNet: a shallow path for details beside a deep one for context; fast.

    Args:
        num_classes: Number of classes.
        backbone: Feature extractor of the context path; the paper's is resnet18.
        aux: Train auxiliary heads on the context path as well.
        pretrained: Start from torchvision's ImageNet weights, downloaded once.
        weights: A local file to start from instead: a state dict of the whole model or of the backbone.

    Raises:
        WeightsError: The weights cannot be had, or do not fit.
    """
    model = BiSeNet(backbones.create(backbone), num_classes, aux=aux)
    return initialise(model, weights=weights, pretrained=pretrained)
