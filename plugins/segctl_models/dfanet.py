"""DFANet A: Li, Xiong, Fan and Sun, "DFANet: Deep Feature Aggregation for Real-Time Semantic Segmentation", 2019,
https://arxiv.org/abs/1904.02216. The section numbers below are the paper's.

There is no release by the authors, and no public version comes near the paper's 7.8 million parameters. This has the
layers, and as many parameters, as https://github.com/huaifeng1993/DFANet of 2020: three, six and three blocks in the
encoder's stages, biases in the separable convolutions, a projection around every block, 64 channels in the decoder.

Two things are different from there: each of the decoder's six projections is used (that version uses one twice, and
one never), and all resizing aligns pixel centres, not corners.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .backbones.weights import initialise
from .layers.conv import ConvNormAct
from .layers.resize import resize

__all__ = ["DFANet", "FCAttention", "XceptionA", "dfanet"]


class DFANet(nn.Module):
    """Three light backbones in a row, each fed with what the one before found (section 3.2, Figure 3).

    Args:
        num_classes: Number of classes C.

    `forward` maps images ``(N, 3, H, W)`` to ``{"out": (N, C, H, W)}``.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, 8, stride=2)
        # A later network takes the attention's 192 channels beside the 48 of the stage before (sub-network
        # aggregation), and the stage of its own size of the network before (sub-stage aggregation).
        self.network1 = XceptionA((8, 48, 96))
        self.network2 = XceptionA((48 + 192, 48 + 96, 96 + 192))
        self.network3 = XceptionA((48 + 192, 48 + 96, 96 + 192))
        self.decoder = Decoder(num_classes)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        first = self.network1(self.stem(image))
        second = self._refine(self.network2, first)
        third = self._refine(self.network3, second)
        shallow, deep = zip(*((enc2, attention) for enc2, _, _, attention in (first, second, third)), strict=True)
        return {"out": resize(self.decoder(shallow, deep), image.shape[-2:])}

    @staticmethod
    def _refine(network: nn.Module, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        enc2, enc3, enc4, attention = features
        return network(torch.cat([enc2, resize(attention, enc2.shape[-2:])], dim=1), enc3, enc4)


class XceptionA(nn.Module):
    """Section 3.3, Table 1: three stages of separable convolutions and the attention.

    Args:
        channels: Channels of the inputs of the three stages.

    `forward` takes the input ``(N, channels[0], h, w)``, and for the other two stages what is concatenated in front of
    them, nothing in the first network. It gives the stages' feature maps, of 48, 96 and 192 channels and a half, a
    quarter and an eighth of the input's size (rounded up), and the last one after the attention.
    """

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        self.enc2 = _stage(channels[0], 48, depth=3)
        self.enc3 = _stage(channels[1], 96, depth=6)
        self.enc4 = _stage(channels[2], 192, depth=3)
        self.attention = FCAttention(192)

    def forward(
        self, x: Tensor, beside3: Tensor | None = None, beside4: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        enc2 = self.enc2(x)
        enc3 = self.enc3(enc2 if beside3 is None else torch.cat([enc2, beside3], dim=1))
        enc4 = self.enc4(enc3 if beside4 is None else torch.cat([enc3, beside4], dim=1))
        return enc2, enc3, enc4, self.attention(enc4)


class Block(nn.Module):
    """Section 3.3: three separable convolutions, the first two of a quarter of the channels, and a projection around.

    Maps ``(N, in, H, W)`` to ``(N, out, H/stride, W/stride)``, rounded up. The input is not changed: an activation in
    place would reach the projection, and the other networks that take this feature map.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        inner = out_channels // 4
        self.branch = nn.Sequential(
            SeparableConv(in_channels, inner, stride),
            SeparableConv(inner, inner),
            SeparableConv(inner, out_channels),
        )
        self.projection = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        # A strided 1x1 convolution as what it is: torch 2.15 crashes on CPUs in one of few channels, channels last.
        return self.branch(x) + self.projection(x[..., :: self.stride, :: self.stride])


class SeparableConv(nn.Module):
    """A depthwise and a pointwise convolution, normalised and activated together.

    Maps ``(N, in, H, W)`` to ``(N, out, H/stride, W/stride)``, rounded up. In a small image the deepest stage has but
    one pixel; that of a batch of one trains as well.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, stride=stride, padding=1, groups=in_channels)
        self.pointwise = ConvNormAct(in_channels, out_channels, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class FCAttention(nn.Module):
    """Section 3.3: channels weighted by a fully connected layer of 1000 on their averages, and a projection back.

    The thousand are ImageNet's classes, on which the paper trains that layer first. A sigmoid makes weights of the
    result; a ReLU, as some versions have it, closes a channel for good where it is negative.

    Keeps the shape ``(N, C, h, w)``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.Linear(channels, 1000, bias=False),
            nn.ReLU(),
            nn.Linear(1000, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weigh(x.mean(dim=(2, 3)))[:, :, None, None]


class Decoder(nn.Module):
    """Section 3.3: the networks' shallow features are added and smoothed, then their attentions added.

    `forward` takes the three of ``(N, 48, ...)`` and the three of ``(N, 192, ...)``, the largest first, and gives
    logits ``(N, num_classes, h, w)`` of the size of the first.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        channels = 64
        self.shallow = nn.ModuleList(ConvNormAct(48, channels, 1) for _ in range(3))
        self.deep = nn.ModuleList(ConvNormAct(192, channels, 1) for _ in range(3))
        self.merge = ConvNormAct(channels, channels, bias=True)
        self.classifier = nn.Conv2d(channels, num_classes, 3, padding=1, bias=False)

    def forward(self, shallow: Sequence[Tensor], deep: Sequence[Tensor]) -> Tensor:
        size = shallow[0].shape[-2:]
        details = self.merge(_sum(self.shallow, shallow, size))
        return self.classifier(details + _sum(self.deep, deep, size))


def _sum(projections: nn.ModuleList, features: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    pairs = zip(projections, features, strict=True)
    return torch.stack([resize(projection(x), size) for projection, x in pairs]).sum(dim=0)


def _stage(in_channels: int, out_channels: int, depth: int) -> nn.Sequential:
    rest = [Block(out_channels, out_channels) for _ in range(depth - 1)]
    return nn.Sequential(Block(in_channels, out_channels, stride=2), *rest)


def dfanet(num_classes: int, *, weights: str | None = None) -> nn.Module:
    """DFANet A: three light networks that refine one another (2.2 million parameters), trained from scratch.

    Args:
        num_classes: Number of classes.
        weights: A local file to start from: a state dict of the whole model.

    Raises:
        WeightsError: The weights cannot be read, or do not fit.
    """
    return initialise(DFANet(num_classes), weights=weights)
