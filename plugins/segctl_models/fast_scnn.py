"""Fast-SCNN: Poudel, Liwicki and Cipolla, "Fast-SCNN: Fast Semantic Segmentation Network", 2019,
https://arxiv.org/abs/1902.04502. The section numbers below are the paper's; the layers are those of its Table 1.

There is no release by the authors. The paper's 1.11 million parameters are the convolutions' weights (1,114,115 at 19
classes, plus 23,680 of the normalisations). Where the paper leaves a choice, this one is made:

- In a depthwise separable convolution, only the ReLU between its two parts is omitted (section 3.2.1), not the
  normalisation.
- The pyramid pooling is PSPNet's, with grids of 1, 2, 3 and 6 cells per side and projections to a quarter of the
  channels.
- Dropout, which section 4.1 has on the last layer only and without its rate, is 0.1 in front of the last convolution.
- Auxiliary heads (section 4.1: at the ends of learning to downsample and of the global feature extractor, weight 0.4)
  are small FCN heads.
"""

from __future__ import annotations

from torch import Tensor, nn

from .backbones.weights import initialise
from .layers.conv import ConvNormAct
from .layers.heads import FCNHead
from .layers.pyramid_pooling import PyramidPooling
from .layers.resize import resize

__all__ = ["FastSCNN", "InvertedResidual", "fast_scnn"]

EXPANSION = 6  # Table 1: t
DEPTH = 3  # of each row of bottlenecks, Table 1: n


class FastSCNN(nn.Module):
    """Two branches, details and context, that share their first layers (section 3.2, Figure 1).

    Args:
        num_classes: Number of classes C.
        aux: Whether to supervise both branches before their fusion in training.

    `forward` maps images ``(N, 3, H, W)`` to ``{"out": (N, C, H, W)}``, in training with `aux` also ``"aux_details"``
    and ``"aux_context"``: logits at about an eighth and a 32nd of the image's size.
    """

    def __init__(self, num_classes: int, *, aux: bool = True) -> None:
        super().__init__()
        self.learning_to_downsample = nn.Sequential(
            ConvNormAct(3, 32, stride=2),
            SeparableConv(32, 48, stride=2),
            SeparableConv(48, 64, stride=2),
        )
        self.global_feature_extractor = GlobalFeatureExtractor()
        self.fusion = FeatureFusion()
        self.classifier = nn.Sequential(  # section 3.2.4
            SeparableConv(128, 128),
            SeparableConv(128, 128),
            nn.Dropout(0.1),
            nn.Conv2d(128, num_classes, 1),
        )
        self.aux_details = FCNHead(64, num_classes) if aux else None
        self.aux_context = FCNHead(128, num_classes) if aux else None

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        details = self.learning_to_downsample(image)
        context = self.global_feature_extractor(details)
        outputs = {"out": resize(self.classifier(self.fusion(details, context)), image.shape[-2:])}
        if self.training and self.aux_details is not None and self.aux_context is not None:
            outputs["aux_details"] = self.aux_details(details)
            outputs["aux_context"] = self.aux_context(context)
        return outputs


class SeparableConv(nn.Sequential):
    """Section 3.2.1: a depthwise and a pointwise convolution without a nonlinearity between them ("DSConv").

    Maps ``(N, in, H, W)`` to ``(N, out, H/stride, W/stride)``, rounded up.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(
            ConvNormAct(in_channels, in_channels, stride=stride, groups=in_channels, act=None),
            ConvNormAct(in_channels, out_channels, 1),
        )


class GlobalFeatureExtractor(nn.Sequential):
    """Section 3.2.2: nine bottlenecks and pyramid pooling. ``(N, 64, h, w)`` to ``(N, 128, h/4, w/4)``."""

    def __init__(self) -> None:
        pyramid = PyramidPooling(128, 128 // 4)
        super().__init__(
            *_stage(64, 64, stride=2),
            *_stage(64, 96, stride=2),
            *_stage(96, 128, stride=1),
            pyramid,
            ConvNormAct(pyramid.channels, 128, 1),
        )


def _stage(in_channels: int, out_channels: int, stride: int) -> list[nn.Module]:
    rest = [InvertedResidual(out_channels, out_channels) for _ in range(DEPTH - 1)]
    return [InvertedResidual(in_channels, out_channels, stride), *rest]


class InvertedResidual(nn.Module):
    """Section 3.2.2, Table 2: MobileNetV2's bottleneck, with ReLU; added to its input where the shapes are equal.

    Maps ``(N, in, H, W)`` to ``(N, out, H/stride, W/stride)``, rounded up.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        inner = in_channels * EXPANSION
        self.residual = stride == 1 and in_channels == out_channels
        self.branch = nn.Sequential(
            ConvNormAct(in_channels, inner, 1),
            ConvNormAct(inner, inner, stride=stride, groups=inner),
            ConvNormAct(inner, out_channels, 1, act=None),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x) if self.residual else self.branch(x)


class FeatureFusion(nn.Module):
    """Section 3.2.3, Table 3: the context is enlarged four times and smoothed at that dilation, then the details added.

    Maps the details ``(N, 64, h, w)`` and the context ``(N, 128, h/4, w/4)`` to ``(N, 128, h, w)``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.context = nn.Sequential(
            ConvNormAct(128, 128, dilation=4, groups=128),
            ConvNormAct(128, 128, 1, act=None),
        )
        self.details = ConvNormAct(64, 128, 1, act=None)
        self.act = nn.ReLU()

    def forward(self, details: Tensor, context: Tensor) -> Tensor:
        return self.act(self.details(details) + self.context(resize(context, details.shape[-2:])))


def fast_scnn(num_classes: int, *, aux: bool = True, weights: str | None = None) -> nn.Module:
    """Fast-SCNN: two branches on shared first layers (1.1 million parameters); fast, trained from scratch.

    Args:
        num_classes: Number of classes.
        aux: Train auxiliary heads on both branches as well.
        weights: A local file to start from: a state dict of the whole model.

    Raises:
        WeightsError: The weights cannot be read, or do not fit.
    """
    return initialise(FastSCNN(num_classes, aux=aux), weights=weights)
