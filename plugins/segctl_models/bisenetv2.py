"""BiSeNetV2: Yu, Gao, Wang, Yu, Shen and Sang, "BiSeNet V2: Bilateral Network with Guided Aggregation for Real-time
Semantic Segmentation", 2020, https://arxiv.org/abs/2004.02147. The section numbers below are the paper's.

Where the paper is silent, https://github.com/CoinCheung/BiSeNet and mmsegmentation agree on these choices:

- In a gather-and-expansion layer, the depthwise convolution in front of the projection is followed by a ReLU; so is
  the last convolution of the aggregation. The context embedding ends with normalisation and ReLU.
- The segmentation head has 1024 channels, and there are auxiliary ("booster") heads on the stem and on the stages 3, 4
  and 5, the last before the context embedding.

Without auxiliary heads, the parameters are those of CoinCheung's version; mmsegmentation's has 256 more, biases of two
1x1 convolutions. The auxiliary heads, which are dropped after training, differ between the two. Here they are the
paper's (Figure 7): one 3x3 convolution, of 128 channels, and the classifier.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segctl import plugin

from .backbones.weights import initialise
from .layers.conv import ConvNormAct
from .layers.pooling import norm_pooled
from .layers.resize import resize

__all__ = ["BiSeNetV2", "GuidedAggregation", "bisenetv2"]

EXPANSION = 6  # Table 1: e
SEMANTIC_CHANNELS = {4: 16, 8: 32, 16: 64, 32: 128}  # Table 1, by stride


class BiSeNetV2(nn.Module):
    """Detail and semantic branch, aggregated and classified at an eighth of the image's size (section 4, Figure 3).

    Args:
        num_classes: Number of classes C.
        aux: Whether to supervise the semantic branch at four depths in training (section 4.4, "booster").

    `forward` maps images ``(N, 3, H, W)`` to ``{"out": (N, C, H, W)}``, in training with `aux` also ``"aux4"``,
    ``"aux8"``, ``"aux16"`` and ``"aux32"``: logits at these fractions of the image's size.
    """

    def __init__(self, num_classes: int, *, aux: bool = True) -> None:
        super().__init__()
        self.detail = DetailBranch()
        self.semantic = SemanticBranch()
        self.aggregation = GuidedAggregation(128)
        self.classifier = _head(128, 1024, num_classes)
        heads = {f"aux{stride}": _head(width, 128, num_classes) for stride, width in SEMANTIC_CHANNELS.items()}
        self.boosters = nn.ModuleDict(heads if aux else {})
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # section 5: trained from scratch, from "kaiming normal" weights
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        detail = self.detail(image)
        *stages, semantic = self.semantic(image)
        outputs = {"out": resize(self.classifier(self.aggregation(detail, semantic)), image.shape[-2:])}
        if self.training:
            boosters = zip(self.boosters.items(), stages, strict=False)  # none where they are not wanted
            outputs.update({name: head(stage) for (name, head), stage in boosters})
        return outputs


class DetailBranch(nn.Sequential):
    """Section 4.1, Table 1: wide and shallow. ``(N, 3, H, W)`` to ``(N, 128, H/8, W/8)``."""

    def __init__(self) -> None:
        super().__init__(
            ConvNormAct(3, 64, stride=2),
            ConvNormAct(64, 64),
            ConvNormAct(64, 64, stride=2),
            ConvNormAct(64, 64),
            ConvNormAct(64, 64),
            ConvNormAct(64, 128, stride=2),
            ConvNormAct(128, 128),
            ConvNormAct(128, 128),
        )


class SemanticBranch(nn.Module):
    """Section 4.2, Table 1: narrow and deep.

    `forward` maps images ``(N, 3, H, W)`` to the feature maps of the stem and of the stages 3, 4 and 5, whose
    channels are `SEMANTIC_CHANNELS`, and the last one's with its context, ``(N, 128, H/32, W/32)``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = Stem()
        self.stage3 = nn.Sequential(GatherExpansionDown(16, 32), GatherExpansion(32))
        self.stage4 = nn.Sequential(GatherExpansionDown(32, 64), GatherExpansion(64))
        self.stage5 = nn.Sequential(GatherExpansionDown(64, 128), *(GatherExpansion(128) for _ in range(3)))
        self.context = ContextEmbedding(128)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        stem = self.stem(image)
        stage3 = self.stage3(stem)
        stage4 = self.stage4(stage3)
        stage5 = self.stage5(stage4)
        return stem, stage3, stage4, stage5, self.context(stage5)


class Stem(nn.Module):
    """Section 4.2, Figure 4a: shrinks by convolution and by pooling. ``(N, 3, H, W)`` to ``(N, 16, H/4, W/4)``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = ConvNormAct(3, 16, stride=2)
        self.left = nn.Sequential(ConvNormAct(16, 8, 1), ConvNormAct(8, 16, stride=2))
        self.right = nn.MaxPool2d(3, stride=2, padding=1)
        self.fuse = ConvNormAct(32, 16)

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv(image)
        return self.fuse(torch.cat([self.left(x), self.right(x)], dim=1))


class ContextEmbedding(nn.Module):
    """Section 4.2, Figure 4b: adds the global average to every pixel. Keeps the shape ``(N, C, h, w)``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.norm = nn.BatchNorm2d(channels)
        self.project = ConvNormAct(channels, channels, 1)
        self.conv = ConvNormAct(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x + self.project(norm_pooled(self.norm, self.pool(x))))


class GatherExpansion(nn.Module):
    """Section 4.2, Figure 5b: 3x3 convolution, depthwise one into six times the channels, projection, added to the
    input. Keeps the shape ``(N, C, h, w)``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels * EXPANSION
        self.branch = nn.Sequential(
            ConvNormAct(channels, channels),
            ConvNormAct(channels, inner, groups=channels),
            ConvNormAct(inner, channels, 1, act=None),
        )
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.branch(x))


class GatherExpansionDown(nn.Module):
    """Section 4.2, Figure 5c: of stride 2, with two depthwise convolutions for one, and a separable one as shortcut.

    Maps ``(N, in, H, W)`` to ``(N, out, H/2, W/2)``, rounded up.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        inner = in_channels * EXPANSION
        self.branch = nn.Sequential(
            ConvNormAct(in_channels, in_channels),
            ConvNormAct(in_channels, inner, stride=2, groups=in_channels, act=None),
            ConvNormAct(inner, inner, groups=inner),
            ConvNormAct(inner, out_channels, 1, act=None),
        )
        self.shortcut = nn.Sequential(
            ConvNormAct(in_channels, in_channels, stride=2, groups=in_channels, act=None),
            ConvNormAct(in_channels, out_channels, 1, act=None),
        )
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.branch(x) + self.shortcut(x))


class GuidedAggregation(nn.Module):
    """Section 4.3, Figure 6: each branch gates the other, at both of their resolutions.

    Maps the details ``(N, C, h, w)`` and the semantics ``(N, C, h/4, w/4)`` to ``(N, C, h, w)``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.detail_keep = _separable(channels)
        self.detail_down = nn.Sequential(
            ConvNormAct(channels, channels, stride=2, act=None),
            nn.AvgPool2d(3, stride=2, padding=1),
        )
        self.semantic_up = ConvNormAct(channels, channels, act=None)
        self.semantic_keep = _separable(channels)
        self.conv = ConvNormAct(channels, channels)

    def forward(self, detail: Tensor, semantic: Tensor) -> Tensor:
        size = detail.shape[-2:]
        fine = self.detail_keep(detail) * torch.sigmoid(resize(self.semantic_up(semantic), size))
        coarse = self.detail_down(detail) * torch.sigmoid(self.semantic_keep(semantic))
        return self.conv(fine + resize(coarse, size))


def _separable(channels: int) -> nn.Sequential:
    return nn.Sequential(
        ConvNormAct(channels, channels, groups=channels, act=None),
        nn.Conv2d(channels, channels, 1, bias=False),
    )


def _head(in_channels: int, channels: int, num_classes: int) -> nn.Sequential:
    """Section 4.4, Figure 7."""
    return nn.Sequential(ConvNormAct(in_channels, channels), nn.Dropout(0.1), nn.Conv2d(channels, num_classes, 1))


# Both releases add the auxiliary losses with the weight 1.
@plugin.model(loss="cross_entropy", loss_options={"aux_weight": 1.0})
def bisenetv2(num_classes: int, *, aux: bool = True, weights: str | None = None) -> nn.Module:
    """BiSeNetV2: a wide shallow branch for details, a narrow deep one for semantics; fast, trained from scratch.

    Args:
        num_classes: Number of classes.
        aux: Train four auxiliary heads on the semantic branch as well.
        weights: A local file to start from: a state dict of the whole model.

    Raises:
        WeightsError: The weights cannot be read, or do not fit.
    """
    return initialise(BiSeNetV2(num_classes, aux=aux), weights=weights)
