"""ENet: Paszke, Chaurasia, Kim and Culurciello, "ENet: A Deep Neural Network Architecture for Real-Time Semantic
Segmentation", 2016, https://arxiv.org/abs/1606.02147. The section numbers below are the paper's.

Where the paper leaves a choice, this one is made:

- PReLU has one weight per feature map (section 4, "Nonlinear operations").
- Batch normalisation uses eps 1e-3, as the authors' Torch code does.
- An odd height or width is rounded up when halved, and every upsampling returns to the very size its counterpart
  started from. The logits are therefore exactly as large as the image, at any size.

In these it deviates from the authors' release (https://github.com/e-lab/ENet-training, train/models), which settles
what the paper does not say; weights trained with this model rest on them:

- A downsampling bottleneck works on a quarter of its input's channels, as in the widely used
  https://github.com/davidtvs/PyTorch-ENet; in the release on a quarter of its output's. For this the two have
  16,920 parameters fewer than there. An upsampling one works on a quarter of its output's, as in the release.
- The decoder has PReLUs and dropout, as the encoder; the release's has ReLUs (336 parameters fewer) and no dropout.
- Between the two convolutions of an asymmetric one stand normalisation and PReLU, in the release nothing; the last full
  convolution is 3x3, there 2x2; and the 3x3 convolutions of the release have biases.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbones.weights import initialise
from .layers.prelu import EPS, norm_prelu

__all__ = ["ENet", "enet"]


class ENet(nn.Module):
    """ENet, layer by layer as in Table 1.

    Args:
        num_classes: Number of classes C.

    `forward` maps images ``(N, 3, H, W)`` to ``{"out": (N, C, H, W)}``.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.initial = InitialBlock()
        self.down1 = DownsamplingBottleneck(16, 64, dropout=0.01)
        self.stage1 = nn.Sequential(*(Bottleneck(64, dropout=0.01) for _ in range(4)))
        self.down2 = DownsamplingBottleneck(64, 128, dropout=0.1)
        self.stage2 = nn.Sequential(*_stage_2_or_3())
        self.stage3 = nn.Sequential(*_stage_2_or_3())
        self.up4 = UpsamplingBottleneck(128, 64)
        self.stage4 = nn.Sequential(Bottleneck(64), Bottleneck(64))
        self.up5 = UpsamplingBottleneck(64, 16)
        self.stage5 = nn.Sequential(Bottleneck(16))
        # The last module is a bare full convolution (end of section 3): nothing normalises it, so it has a bias.
        self.fullconv = nn.ConvTranspose2d(16, num_classes, 3, stride=2, padding=1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.initial(image)
        half = x.shape[-2:]
        x, indices1 = self.down1(x)
        x = self.stage1(x)
        quarter = x.shape[-2:]
        x, indices2 = self.down2(x)
        x = self.stage3(self.stage2(x))
        x = self.stage4(self.up4(x, indices2, quarter))
        x = self.stage5(self.up5(x, indices1, half))
        return {"out": self.fullconv(x, output_size=image.shape[-2:])}


class InitialBlock(nn.Module):
    """Section 3, Figure 2a: 13 feature maps by a strided convolution beside the 3 pooled image channels.

    `forward` maps ``(N, 3, H, W)`` to ``(N, 16, H/2, W/2)``, rounded up.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 13, 3, stride=2, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.norm_act = norm_prelu(16)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm_act(torch.cat([self.conv(image), self.pool(image)], dim=1))


class Bottleneck(nn.Module):
    """Section 3, Figure 2b: 1x1 projection, main convolution, 1x1 expansion, spatial dropout, added to the input.

    Args:
        channels: Input and output channels.
        dilation: Dilation of the 3x3 convolution.
        asymmetric: Instead of the 3x3 convolution, one of this size n decomposed into n x 1 and 1 x n. Batch
            normalisation and PReLU stand between all convolutions, hence between these two as well.
        dropout: Probability of a feature map's being dropped: 0.01 before bottleneck 2.0, 0.1 afterwards.
    """

    def __init__(
        self, channels: int, *, dilation: int = 1, asymmetric: int | None = None, dropout: float = 0.1
    ) -> None:
        super().__init__()
        inner = channels // 4
        if asymmetric is None:
            conv = [nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation, bias=False)]
        else:
            n, pad = asymmetric, asymmetric // 2
            conv = [
                nn.Conv2d(inner, inner, (n, 1), padding=(pad, 0), bias=False),
                norm_prelu(inner),
                nn.Conv2d(inner, inner, (1, n), padding=(0, pad), bias=False),
            ]
        self.branch = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False),
            norm_prelu(inner),
            *conv,
            norm_prelu(inner),
            *_expansion(inner, channels),
            nn.Dropout2d(dropout),
        )
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.branch(x))


class DownsamplingBottleneck(nn.Module):
    """Section 3: a 2x2 projection of stride 2; the main branch is max-pooled and zero-padded to the new channels.

    `forward` maps ``(N, in, H, W)`` to ``(N, out, H/2, W/2)``, rounded up, and the pooling's indices of that size.
    """

    def __init__(self, in_channels: int, out_channels: int, *, dropout: float) -> None:
        super().__init__()
        inner = in_channels // 4
        self.pool = nn.MaxPool2d(2, stride=2, ceil_mode=True, return_indices=True)
        self.extra_channels = out_channels - in_channels
        self.branch = nn.Sequential(
            nn.Conv2d(in_channels, inner, 2, stride=2, bias=False),
            norm_prelu(inner),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            norm_prelu(inner),
            *_expansion(inner, out_channels),
            nn.Dropout2d(dropout),
        )
        self.act = nn.PReLU(out_channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pooled, indices = self.pool(x)
        height, width = x.shape[-2:]
        branch = self.branch(F.pad(x, (0, width % 2, 0, height % 2)))
        return self.act(F.pad(pooled, (0, 0, 0, 0, 0, self.extra_channels)) + branch), indices


class UpsamplingBottleneck(nn.Module):
    """Section 3: in the decoder unpooling replaces max pooling, and a 1x1 convolution without bias replaces the
    padding; the branch's main convolution is a 3x3 full (transposed) one of stride 2.

    `forward` maps ``(N, in, H/2, W/2)``, the indices of the pooling that led there, and the size (H, W) it started from
    to ``(N, out, H, W)``.
    """

    def __init__(self, in_channels: int, out_channels: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        inner = out_channels // 4
        self.main = nn.Sequential(*_expansion(in_channels, out_channels))
        self.projection = nn.Sequential(nn.Conv2d(in_channels, inner, 1, bias=False), norm_prelu(inner))
        self.fullconv = nn.ConvTranspose2d(inner, inner, 3, stride=2, padding=1, bias=False)
        self.expansion = nn.Sequential(norm_prelu(inner), *_expansion(inner, out_channels), nn.Dropout2d(dropout))
        self.act = nn.PReLU(out_channels)

    def forward(self, x: Tensor, indices: Tensor, size: torch.Size) -> Tensor:
        branch = self.expansion(self.fullconv(self.projection(x), output_size=size))
        return self.act(branch + _max_unpool(self.main(x), indices, size))


def _max_unpool(x: Tensor, indices: Tensor, size: torch.Size) -> Tensor:
    """`torch.nn.functional.max_unpool2d` for windows that do not overlap, so that no two values meet in one place.

    That function refuses to run where deterministic algorithms are asked for; a scatter runs and gives the same.
    """
    n, channels = x.shape[:2]
    flat = x.new_zeros(n, channels, size[0] * size[1])
    return flat.scatter(2, indices.flatten(2), x.flatten(2)).view(n, channels, *size)


def _stage_2_or_3() -> list[Bottleneck]:
    """Bottlenecks 2.1 to 2.8; section 3 repeats them (without 2.0), so 3.1 to 3.8 are the same."""
    return [
        Bottleneck(128),
        Bottleneck(128, dilation=2),
        Bottleneck(128, asymmetric=5),
        Bottleneck(128, dilation=4),
        Bottleneck(128),
        Bottleneck(128, dilation=8),
        Bottleneck(128, asymmetric=5),
        Bottleneck(128, dilation=16),
    ]


def _expansion(in_channels: int, out_channels: int) -> tuple[nn.Module, nn.Module]:
    """A 1x1 convolution, normalised but not activated: the activation follows the sum of the two branches."""
    return nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels, eps=EPS)


def enet(num_classes: int, *, weights: str | None = None) -> nn.Module:
    """ENet: a small, fast encoder-decoder (0.35 million parameters), trained from scratch.

    Args:
        num_classes: Number of classes.
        weights: A local file to start from: a state dict of the whole model.

    Raises:
        WeightsError: The weights cannot be read, or do not fit.
    """
    return initialise(ENet(num_classes), weights=weights)
