"""DenseASPP: Yang, Yu, Zhang, Li and Yang, "DenseASPP for Semantic Segmentation in Street Scenes", 2018,
https://openaccess.thecvf.com/content_cvpr_2018/papers/Yang_DenseASPP_for_Semantic_CVPR_2018_paper.pdf: the densely
connected atrous spatial pyramid of section 3 on the dilated DenseNet of section 4.

What the paper leaves open is as in the authors' release (https://github.com/DeepMotionAIResearch/DenseASPP): a fourth
transition that halves the channels behind the last dense block, the widths of the pyramid for each DenseNet, biases in
the pyramid's convolutions, dropout of whole feature maps. A transition begins with normalisation and activation; those
of the fourth one are the ``norm5`` of torchvision's DenseNet and the activation behind it, so that all ImageNet weights
fit.

The release's pyramid moves its running statistics by 0.0003 of the way at each step. That needs tens of thousands of
steps to forget the initial values; here it is torch's 0.1.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from .backbones.densenet import DenseNet, DenseNetName
from .backbones.weights import initialise
from .layers.conv import ConvNormAct
from .layers.resize import resize

__all__ = ["DenseASPP", "DensePyramid", "denseaspp"]

RATES = (3, 6, 12, 18, 24)  # section 3.2: DenseASPP(3, 6, 12, 18, 24)

# Channels of the 1x1 convolution and of the dilated one in each layer of the pyramid.
WIDTHS = {
    "densenet121": (128, 64),
    "densenet161": (512, 128),
    "densenet169": (336, 168),
    "densenet201": (480, 240),
}


class DenseASPP(nn.Module):
    """A DenseNet, the fourth transition, the dense pyramid and the classifier.

    Args:
        backbone: Maps images ``(N, 3, H, W)`` to a sequence of feature maps, the deepest last.
        num_classes: Number of classes C.
        widths: Channels in each layer of the pyramid, see `WIDTHS`.

    `forward` gives ``{"out": (N, C, H, W)}``.
    """

    def __init__(self, backbone: DenseNet, num_classes: int, *, widths: tuple[int, int]) -> None:
        super().__init__()
        self.backbone = backbone
        channels = backbone.channels[-1] // 2
        self.transition = ConvNormAct(backbone.channels[-1], channels, 1)
        self.pyramid = DensePyramid(channels, *widths)
        self.classifier = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(self.pyramid.channels, num_classes, 1))
        self.enlarge = backbone.strides[-1] // 8  # the release runs the pyramid at stride 8 in any case

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.transition(self.backbone(image)[-1])
        if self.enlarge > 1:
            x = resize(x, [self.enlarge * side for side in x.shape[-2:]])
        return {"out": resize(self.classifier(self.pyramid(x)), image.shape[-2:])}


class DensePyramid(nn.Module):
    """Dilated convolutions of growing rate, each of which sees the features and the results of all before it.

    Args:
        in_channels: Channels of the features, which are normalised and activated already.
        inner: Channels of the 1x1 convolution before each dilated one.
        growth: Channels that each dilated convolution adds.

    Attributes:
        channels: Channels of the result.

    `forward` maps ``(N, in, h, w)`` to ``(N, channels, h, w)``: the results, the last first, then the features.
    """

    def __init__(self, in_channels: int, inner: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for rate in RATES:
            first = () if rate == RATES[0] else (nn.BatchNorm2d(in_channels), nn.ReLU())
            self.layers.append(nn.Sequential(*first, *_layer(in_channels, inner, growth, rate)))
            in_channels += growth
        self.channels = in_channels

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([layer(x), x], dim=1)
        return x


def _layer(in_channels: int, inner: int, growth: int, rate: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(in_channels, inner, 1),
        nn.BatchNorm2d(inner),
        nn.ReLU(),
        nn.Conv2d(inner, growth, 3, padding=rate, dilation=rate),
        nn.Dropout2d(0.1),
    )


def denseaspp(
    num_classes: int,
    *,
    backbone: DenseNetName = "densenet121",
    output_stride: Literal[8, 16] = 8,
    pretrained: bool = False,
    weights: str | None = None,
) -> nn.Module:
    """DenseASPP: a dilated DenseNet under densely connected dilated convolutions.

    Args:
        num_classes: Number of classes.
        backbone: Feature extractor.
        output_stride: Size of the image over that of the backbone's last feature map; 16 needs less memory and time.
        pretrained: Start from torchvision's ImageNet weights, downloaded once.
        weights: A local file to start from instead: a state dict of the whole model or of the backbone.

    Raises:
        WeightsError: The weights cannot be had, or do not fit.
    """
    features = DenseNet(backbone, output_stride=output_stride)
    model = DenseASPP(features, num_classes, widths=WIDTHS[backbone])
    return initialise(model, weights=weights, pretrained=pretrained)
