"""Global context from average pooling, also for a batch of one image."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .resize import resize

__all__ = ["ImagePooling", "halved", "norm_pooled"]


class ImagePooling(nn.Sequential):
    """The image-level feature of DeepLabv3 (section 3.3), after ParseNet (Liu et al. 2015): pooled, projected, spread.

    Maps ``(N, in, h, w)`` to ``(N, out, h, w)``. Parameters are named as in torchvision's ``ASPPPooling``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        pool, projection, norm, act = self
        return resize(act(norm_pooled(norm, projection(pool(x)))), x.shape[-2:])


def norm_pooled(norm: nn.Module, x: Tensor) -> Tensor:
    """Applies the batch normalisation `norm` to features ``(N, C, h, w)`` that may be pooled to one value per channel.

    In training, a single value per channel (a single image, a single pixel) has no variance that would be a statistic:
    torch refuses it. It is then normalised by the running statistics, as in evaluation, and does not change them. A
    layer that has been converted to gather its statistics over several processes is left to do so.
    """
    if type(norm) is nn.BatchNorm2d and norm.training and x.numel() == x.shape[1]:
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    return norm(x)


def halved(x: Tensor) -> Tensor:
    """``(N, C, H, W)`` to ``(N, C, H/2, W/2)``, rounded up, by averages over 3x3 pixels, zeros around the border."""
    return F.avg_pool2d(x, 3, stride=2, padding=1)
