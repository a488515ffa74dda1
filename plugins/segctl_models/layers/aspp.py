"""Atrous spatial pyramid pooling of DeepLabv3: Chen et al. 2017, https://arxiv.org/abs/1706.05587, section 3.3; with
separable convolutions that of DeepLabv3+, Chen et al. 2018, https://arxiv.org/abs/1802.02611, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .conv import ConvNormAct
from .pooling import ImagePooling
from .separable import SeparableConv

__all__ = ["ASPP", "RATES"]

# By output stride. Section 3.3: "the rates are doubled when output_stride = 8".
RATES = {16: (6, 12, 18), 8: (12, 24, 36)}


class ASPP(nn.Module):
    """Parallel 1x1, dilated 3x3 and image-level features, concatenated and projected.

    Args:
        in_channels: Channels of the feature map.
        rates: Dilations of the 3x3 convolutions, as in `RATES`.
        out_channels: Channels of each branch and of the result.
        separable: Whether the 3x3 convolutions are separable.
        dropout: Probability of a value's being dropped behind the projection.

    Maps ``(N, in, h, w)`` to ``(N, out, h, w)``. Parameters are named as in torchvision's ``ASPP``.
    """

    def __init__(
        self,
        in_channels: int,
        rates: Sequence[int],
        out_channels: int = 256,
        *,
        separable: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                ConvNormAct(in_channels, out_channels, 1),
                *(
                    SeparableConv(in_channels, out_channels, dilation=rate)
                    if separable
                    else ConvNormAct(in_channels, out_channels, 3, dilation=rate)
                    for rate in rates
                ),
                ImagePooling(in_channels, out_channels),
            ]
        )
        project = ConvNormAct(len(self.convs) * out_channels, out_channels, 1)
        self.project = nn.Sequential(*project, nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        return self.project(torch.cat([branch(x) for branch in self.convs], dim=1))
