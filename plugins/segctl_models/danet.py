"""DANet: Fu, Liu, Tian, Li, Bao, Fang and Lu, "Dual Attention Network for Scene Segmentation", 2019,
https://arxiv.org/abs/1809.02983: the position attention of section 3.2, the channel attention of section 3.3, and their
fusion of section 3.4.

Where the paper leaves a choice, it is that of the authors' release (https://github.com/junfu1115/DANet): a ResNet with
a 7x7 stem, whose last stage has the dilations 4, 8 and 16; features of a quarter of the channels; queries and keys of
an eighth of those; channels are attended by their dissimilarity, see `ChannelAttention`; in training each attention has
a classifier of its own, whose loss counts as much as that of their sum. Unlike there, pixel centres are aligned when a
map is resized.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from segctl import plugin
from segctl.errors import ConfigError, listing

from . import backbones
from .backbones import resnet
from .backbones.weights import initialise
from .layers.attention import attend, query_key_value
from .layers.conv import ConvNormAct
from .layers.resize import resize

__all__ = ["ChannelAttention", "DANet", "PositionAttention", "danet"]

# ResNets whose last stage has three blocks.
_THREE_BLOCKS = [name for name in get_args(resnet.ResNetName) if name != "resnet18"]


class DANet(nn.Module):
    """A dilated backbone under two attention modules side by side, whose results are added.

    Args:
        backbone: Maps images ``(N, 3, H, W)`` to a sequence of feature maps, the deepest last.
        num_classes: Number of classes C.
        aux: Whether each attention module has a classifier of its own.

    `forward` gives ``{"out": (N, C, H, W)}``, in training also ``"aux_position"`` and ``"aux_channel"``,
    ``(N, C, h, w)``.
    """

    def __init__(self, backbone: nn.Module, num_classes: int, *, aux: bool) -> None:
        super().__init__()
        channels = backbone.channels[-1]
        inner = channels // 4
        self.backbone = backbone
        self.position = _around(PositionAttention(inner), channels, inner)
        self.channel = _around(ChannelAttention(), channels, inner)
        self.aux_position = _classifier(inner, num_classes) if aux else None
        self.aux_channel = _classifier(inner, num_classes) if aux else None
        self.classifier = _classifier(inner, num_classes)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        features = self.backbone(image)[-1]
        position, channel = self.position(features), self.channel(features)
        outputs = {"out": resize(self.classifier(position + channel), image.shape[-2:])}
        if self.training and self.aux_position is not None and self.aux_channel is not None:
            outputs["aux_position"] = self.aux_position(position)
            outputs["aux_channel"] = self.aux_channel(channel)
        return outputs


class PositionAttention(nn.Module):
    """Section 3.2: each position takes from all others by the similarity of their features.

    Args:
        channels: Channels C of the features.

    `forward` maps ``(N, C, h, w)`` to the same shape.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key, self.value = query_key_value(channels)
        self.alpha = nn.Parameter(torch.zeros(1))  # "initialized as 0 and gradually learns to assign more weight"

    def forward(self, x: Tensor) -> Tensor:
        return self.alpha * attend(self.query(x), self.key(x), self.value(x), scale=1.0) + x


class ChannelAttention(nn.Module):
    """Section 3.3: each feature map takes from all others by the product of their values.

    The paper weights by softmax(e) of the products e; the release, as here, by softmax(max(e) - e), so that a feature
    map takes most from those that are least like it. The maximum changes nothing, and is therefore left out.

    `forward` maps ``(N, C, h, w)`` to the same shape.
    """

    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # the sums run over a whole image: 16 bits are not enough
            maps = x.flatten(2).float()
            attention = torch.softmax(-(maps @ maps.mT), dim=-1)
        context = (attention.to(x.dtype) @ x.flatten(2)).view_as(x)
        return self.beta * context + x


def _around(attention: nn.Module, channels: int, inner: int) -> nn.Sequential:
    """Section 3.4: a 3x3 convolution before the attention and one behind it."""
    return nn.Sequential(ConvNormAct(channels, inner, 3), attention, ConvNormAct(inner, inner, 3))


def _classifier(channels: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(channels, num_classes, 1))


@plugin.model(loss_options={"aux_weight": 1.0})
def danet(
    num_classes: int,
    *,
    backbone: backbones.DilatedName = "resnet50",
    output_stride: Literal[8, 16] = 8,
    stem: backbones.Stem = "7x7",
    multi_grid: bool | None = None,
    aux: bool = True,
    pretrained: bool = False,
    weights: str | None = None,
) -> nn.Module:
    """DANet: attention among positions beside attention among feature maps.

    Args:
        num_classes: Number of classes.
        backbone: Feature extractor.
        output_stride: Size of the image over that of the last feature map; 16 needs less memory and time.
        stem: First layers of a ResNet. torchvision's ImageNet weights fit ``7x7`` only.
        multi_grid: Multiply the dilations of the last stage's three blocks by 1, 2 and 4; by default wherever there are
            three (ResNets but resnet18).
        aux: Train a classifier on each of the two attention modules as well.
        pretrained: Start from torchvision's ImageNet weights, downloaded once.
        weights: A local file to start from instead: a state dict of the whole model or of the backbone.

    Raises:
        ConfigError: The backbone has no such stem, or not three blocks in its last stage.
        WeightsError: The weights cannot be had, or do not fit.
    """
    has_three = backbone in _THREE_BLOCKS
    if multi_grid and not has_three:
        raise ConfigError(
            f"model.multi_grid: the last stage of {backbone} has not the three blocks that it is for.",
            f"Leave it out, or take one of {listing(_THREE_BLOCKS)}.",
        )
    features = backbones.create(
        backbone,
        output_stride=output_stride,
        stem=stem,
        multi_grid=(1, 2, 4) if has_three and multi_grid is not False else None,
    )
    return initialise(DANet(features, num_classes, aux=aux), weights=weights, pretrained=pretrained)
