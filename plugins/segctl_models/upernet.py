"""UPerNet: Xiao, Liu, Zhou, Jiang and Sun, "Unified Perceptual Parsing for Scene Understanding", 2018,
https://arxiv.org/abs/1807.10221, section 3.1: a feature pyramid network whose top is a pyramid pooling module, and of
the heads the one for objects, which reads all levels.

What the paper leaves open is as in mmsegmentation, whose models the papers of Swin and ConvNeXt report: 512 channels
throughout; a 3x3 convolution on each level but the top, whose own is behind the pooling; and an auxiliary FCN head of
256 channels on stage 3, which the loss weighs by 0.4. Its ResNets have the stem ``v1c``; the default here is that of
torchvision's weights. Parameters with 150 classes and the auxiliary head, in millions, there and in those papers: 60
(Swin-T), 81 (Swin-S), 121 (Swin-B), 60, 82, 122 and 235 (ConvNeXt-T, S, B, L), 86 (ResNet-101); here the same, but
without the scale and shift of the normalisation behind the first three stages of Swin and ConvNeXt.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from segctl.errors import ConfigError

from . import backbones
from .backbones.weights import initialise
from .layers.conv import ConvNormAct
from .layers.heads import ConvHead
from .layers.pyramid_pooling import PyramidPooling
from .layers.resize import resize, resize_and_concat

__all__ = ["UPerHead", "UPerNet", "upernet"]


class UPerHead(nn.Module):
    """The pyramid, from the top down, and the fusion of its levels.

    Args:
        in_channels: Channels of the feature maps, shallow to deep.
        num_classes: Number of classes C.
        channels: Channels of each level.

    Maps feature maps ``(N, in_channels[i], h[i], w[i])`` to logits ``(N, C, h[0], w[0])``.
    """

    def __init__(self, in_channels: Sequence[int], num_classes: int, *, channels: int) -> None:
        super().__init__()
        *lower, top = in_channels
        self.ppm = PyramidPooling(top, channels)
        self.top = ConvNormAct(self.ppm.channels, channels, 3)
        self.lateral = nn.ModuleList(ConvNormAct(width, channels, 1) for width in lower)
        self.smooth = nn.ModuleList(ConvNormAct(channels, channels, 3) for _ in lower)
        self.fusion = ConvNormAct(len(in_channels) * channels, channels, 3)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        *lower, deepest = features
        x = self.top(self.ppm(deepest))
        levels = [x]
        for lateral, smooth, feature in zip(
            reversed(self.lateral), reversed(self.smooth), reversed(lower), strict=True
        ):
            x = lateral(feature) + resize(x, feature.shape[-2:])
            levels.insert(0, smooth(x))
        return self.classifier(self.dropout(self.fusion(resize_and_concat(levels))))


class UPerNet(nn.Module):
    """Joins a backbone and the heads.

    Args:
        backbone: Maps images ``(N, 3, H, W)`` to feature maps, the last four of which are read.
        decode_head: Maps these to logits of the first one's size.
        aux_head: Maps the last feature map but one to logits for the loss; only computed in training.

    `forward` gives ``{"out": (N, C, H, W)}``, in training with an auxiliary head also ``"aux"`` at that head's size.
    """

    def __init__(self, backbone: nn.Module, decode_head: nn.Module, aux_head: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.decode_head = decode_head
        self.aux_head = aux_head

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        features = self.backbone(image)
        outputs = {"out": resize(self.decode_head(features[-4:]), image.shape[-2:])}
        if self.training and self.aux_head is not None:
            outputs["aux"] = self.aux_head(features[-2])
        return outputs


def upernet(
    num_classes: int,
    *,
    backbone: backbones.PyramidName = "resnet50",
    stem: backbones.Stem = "7x7",
    channels: int = 512,
    aux: bool = True,
    pretrained: bool = False,
    weights: str | None = None,
) -> nn.Module:
    """UPerNet: pyramid pooling on top of a feature pyramid network, on any backbone.

    Args:
        num_classes: Number of classes.
        backbone: Feature extractor.
        stem: First layers of a ResNet. torchvision's ImageNet weights fit ``7x7`` only.
        channels: Channels of each level of the pyramid.
        aux: Train an auxiliary head on the third stage as well.
        pretrained: Start from torchvision's ImageNet weights, downloaded once.
        weights: A local file to start from instead: a state dict of the whole model or of the backbone.

    Raises:
        ConfigError: There is a stem given for something else than a ResNet, or an option is out of its range.
        WeightsError: The weights cannot be had, or do not fit.
    """
    if channels < 1:
        raise ConfigError(f"model.channels: {channels} is not a number of channels, 1 or greater.")
    features = backbones.create(backbone, stem=stem)
    model = UPerNet(
        features,
        UPerHead(features.channels[-4:], num_classes, channels=channels),
        ConvHead(features.channels[-2], 256, num_classes) if aux else None,
    )
    return initialise(model, weights=weights, pretrained=pretrained)
