"""LEDNet: Wang, Zhou, Liu, Xiong, Gao, Wu and Latecki, "LEDNet: A Lightweight Encoder-Decoder Network for Real-Time
Semantic Segmentation", 2019, https://arxiv.org/abs/1905.02423. Section 2 with Table 1 is followed.

What the paper leaves open is as in the authors' https://github.com/xiaoyufenfei/LEDNet: normalisation uses eps 1e-3,
convolutions have biases, dropout of whole feature maps is 0.03 in the encoder's first two stages and 0.3 in the third,
and the attention pyramid has a single channel.

That release cannot take any image: its pyramid halves sizes and rounds down, and its logits are of 512x1024. Here
whatever is shrunk rounds up, and every enlargement returns to the very size its counterpart started from, with pixel
centres aligned, not corners.
"""

from __future__ import annotations

from functools import partial
from math import inf

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbones.weights import initialise
from .layers.conv import ConvNormAct
from .layers.resize import resize

__all__ = ["AttentionPyramid", "Downsampler", "LEDNet", "SplitShuffle", "channel_shuffle", "lednet"]

EPS = 1e-3

_unit = partial(ConvNormAct, bias=True, eps=EPS)


class LEDNet(nn.Module):
    """Encoder and decoder, layer by layer as in Table 1.

    Args:
        num_classes: Number of classes C.

    `forward` maps images ``(N, 3, H, W)`` to ``{"out": (N, C, H, W)}``.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            Downsampler(3, 32),
            *(SplitShuffle(32, dropout=0.03) for _ in range(3)),
            Downsampler(32, 64),
            *(SplitShuffle(64, dropout=0.03) for _ in range(2)),
            Downsampler(64, 128),
            *(SplitShuffle(128, dilation, dropout=0.3) for dilation in (1, 2, 5, 9, 2, 5, 9, 17)),
        )
        self.decoder = AttentionPyramid(128, num_classes)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"out": resize(self.decoder(self.encoder(image)), image.shape[-2:])}


class Downsampler(nn.Module):
    """A 3x3 convolution of stride 2 beside the pooled input, normalised and activated together.

    Maps ``(N, in, H, W)`` to ``(N, out, H/2, W/2)``, rounded up.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels - in_channels, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(out_channels, eps=EPS)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        # The padding is only seen where a size is odd. With `ceil_mode` instead, export could not tell for images of
        # any size that both parts are equally large.
        pooled = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-inf), 2)
        return self.act(self.norm(torch.cat([self.conv(x), pooled], dim=1)))


class SplitShuffle(nn.Module):
    """Figure 2d ("SS-nbt"): each half of the channels goes through 3x3 convolutions decomposed into 3x1 and 1x3, in
    opposite order; both are added to the input, and the halves' channels shuffled.

    Keeps the shape ``(N, channels, h, w)``.

    Args:
        channels: Channels of the feature map, even.
        dilation: Dilation of the second pair of convolutions.
        dropout: Probability of a feature map's being dropped.
    """

    def __init__(self, channels: int, dilation: int = 1, *, dropout: float) -> None:
        super().__init__()
        half = channels // 2
        self.left = nn.Sequential(*_pair(half, 1, tall_first=True), nn.ReLU(), *_pair(half, dilation, tall_first=True))
        self.right = nn.Sequential(
            *_pair(half, 1, tall_first=False), nn.ReLU(), *_pair(half, dilation, tall_first=False)
        )
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        merged = torch.cat([self.left(left), self.right(right)], dim=1)
        return channel_shuffle(F.relu(x + self.dropout(merged)), groups=2)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleaves the channels of ``(N, C, h, w)``: the first of each of `groups` groups, then the second of each.

    Zhang et al., "ShuffleNet", 2018, https://arxiv.org/abs/1707.01083, section 3.1.
    """
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class AttentionPyramid(nn.Module):
    """The decoder ("APN"): the classes' maps, weighted at each pixel by what a pyramid of three scales sees
    around it, and the image's average added.

    Maps ``(N, in, h, w)`` to logits ``(N, num_classes, h, w)``.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.average = _unit(in_channels, num_classes, 1)
        self.middle = _unit(in_channels, num_classes, 1)
        self.down1 = _unit(in_channels, 1, 7, stride=2)
        self.down2 = _unit(1, 1, 5, stride=2)
        self.down3 = nn.Sequential(_unit(1, 1, 3, stride=2), _unit(1, 1, 3))
        self.side2 = _unit(1, 1, 5)
        self.side1 = _unit(1, 1, 7)

    def forward(self, x: Tensor) -> Tensor:
        half = self.down1(x)
        quarter = self.down2(half)
        eighth = self.down3(quarter)
        pyramid = self.side2(quarter) + resize(eighth, quarter.shape[-2:])
        pyramid = self.side1(half) + resize(pyramid, half.shape[-2:])
        return self.middle(x) * resize(pyramid, x.shape[-2:]) + self.average(self.pool(x))


def _pair(channels: int, dilation: int, *, tall_first: bool) -> list[nn.Module]:
    """A 3x1 and a 1x3 convolution with a ReLU between them, normalised, not yet activated."""
    tall = nn.Conv2d(channels, channels, (3, 1), padding=(dilation, 0), dilation=(dilation, 1))
    wide = nn.Conv2d(channels, channels, (1, 3), padding=(0, dilation), dilation=(1, dilation))
    first, second = (tall, wide) if tall_first else (wide, tall)
    return [first, nn.ReLU(), second, nn.BatchNorm2d(channels, eps=EPS)]


def lednet(num_classes: int, *, weights: str | None = None) -> nn.Module:
    """LEDNet: residual units with split and shuffled channels, and an attention pyramid (0.9 million parameters).

    Args:
        num_classes: Number of classes.
        weights: A local file to start from: a state dict of the whole model.

    Raises:
        WeightsError: The weights cannot be read, or do not fit.
    """
    return initialise(LEDNet(num_classes), weights=weights)
