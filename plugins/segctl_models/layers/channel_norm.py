"""Layer normalisation of the feature maps that a ConvNeXt or Swin classifier does not normalise."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["normalise_channels"]


def normalise_channels(x: Tensor, eps: float) -> Tensor:
    """Normalises each position's channels, those of ``(N, h, w, C)``, without weights.

    The authors' segmentation models have a layer normalisation with weights behind each stage. Here only the last stage
    has one, the classifier's; weights of the other three would be unused parameters wherever a head does not read their
    maps. (A convolution that follows can do what these weights would.)
    """
    return F.layer_norm(x, x.shape[-1:], eps=eps)
