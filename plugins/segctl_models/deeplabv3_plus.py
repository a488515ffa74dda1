"""DeepLabv3+: Chen, Zhu, Papandreou, Schroff and Adam, "Encoder-Decoder with Atrous Separable Convolution for Semantic
Image Segmentation", 2018, https://arxiv.org/abs/1802.02611. The section numbers below are the paper's.

What the paper leaves open is as in the authors' release (tensorflow/models, ``deeplab/model.py``): the pyramid and the
decoder consist of separable convolutions, normalised and activated behind either part, on every backbone; dropout of
0.1 follows the pyramid. Two things are added: an auxiliary head (mmsegmentation's), off by default, and a pyramid and
decoder that can be left out, as in the authors' models on MobileNetV2.

With xception65 there are 41,055,413 parameters at 21 classes, as many as in the release.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from . import backbones
from .backbones.weights import initialise
from .layers.aspp import ASPP, RATES
from .layers.conv import ConvNormAct
from .layers.heads import FCNHead
from .layers.resize import resize
from .layers.separable import SeparableConv

__all__ = ["DeepLabV3Plus", "deeplabv3_plus"]


class DeepLabV3Plus(nn.Module):
    """Figure 2: DeepLabv3 as the encoder, and a decoder that refines its result along object boundaries.

    Args:
        backbone: Feature extractor with a feature map of stride 4, the last but three.
        num_classes: Number of classes C.
        rates: Dilations of the pyramid's 3x3 convolutions.
        decoder: Whether there is a decoder.
        aux: Whether there is an auxiliary head on the last feature map but one.

    `forward` gives ``{"out": (N, C, H, W)}``, in training with an auxiliary head also ``"aux"`` of shape (N, C, h, w).
    """

    def __init__(
        self, backbone: nn.Module, num_classes: int, *, rates: tuple[int, ...], decoder: bool, aux: bool
    ) -> None:
        super().__init__()
        *_, low_level, _, middle, deep = backbone.channels
        self.backbone = backbone
        self.aspp = ASPP(deep, rates, separable=True, dropout=0.1)
        self.decoder = Decoder(low_level) if decoder else None
        self.classifier = nn.Conv2d(256, num_classes, 1)
        self.aux_classifier = FCNHead(middle, num_classes) if aux else None

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        *_, low_level, _, middle, deep = self.backbone(image)
        x = self.aspp(deep)
        if self.decoder is not None:
            x = self.decoder(x, low_level)
        outputs = {"out": resize(self.classifier(x), image.shape[-2:])}
        if self.training and self.aux_classifier is not None:
            outputs["aux"] = self.aux_classifier(middle)
        return outputs


class Decoder(nn.Module):
    """Section 3.1, "Proposed decoder".

    Args:
        low_level: Channels of the low-level feature. They are reduced to 48, so that they do not "outweigh the
            importance of the rich encoder features" (Table 1 compares numbers of channels; Table 2 has the two 3x3
            convolutions of 256).

    `forward` takes the encoder's result ``(N, 256, h, w)`` to the low-level feature ``(N, low_level, h', w')``, and
    gives ``(N, 256, h', w')``.
    """

    def __init__(self, low_level: int) -> None:
        super().__init__()
        self.project = ConvNormAct(low_level, 48, 1)
        self.refine = nn.Sequential(SeparableConv(256 + 48, 256), SeparableConv(256, 256))

    def forward(self, x: Tensor, low_level: Tensor) -> Tensor:
        return self.refine(torch.cat([resize(x, low_level.shape[-2:]), self.project(low_level)], dim=1))


def deeplabv3_plus(
    num_classes: int,
    *,
    backbone: backbones.DilatedName = "xception65",
    output_stride: Literal[8, 16] = 16,
    atrous: bool = True,
    decoder: bool = True,
    aux: bool = False,
    pretrained: bool = False,
    weights: str | None = None,
) -> nn.Module:
    """DeepLabv3+: a pyramid of separable dilated convolutions, and a decoder for sharp boundaries.

    Args:
        num_classes: Number of classes.
        backbone: Feature extractor; the paper's are xception65 and resnet101. mobilenet_v2 is the one for small
            machines.
        output_stride: Size of the image over that of the last feature map; the paper trains at 16, and 8 needs more
            memory and time. The rates of the pyramid follow.
        atrous: Have the pyramid's dilated convolutions. Without them it is the 1x1 convolution and the image pooling:
            with `decoder: false` as well, that is the authors' fast model on mobilenet_v2.
        decoder: Have the decoder.
        aux: Train an auxiliary head on the third stage as well.
        pretrained: Start from torchvision's ImageNet weights, downloaded once. There are none for xception65.
        weights: A local file to start from instead: a state dict of the whole model or of the backbone; for xception65
            also timm's classifier of that name.

    Raises:
        WeightsError: The weights cannot be had, or do not fit.
    """
    model = DeepLabV3Plus(
        backbones.create(backbone, output_stride=output_stride),
        num_classes,
        rates=RATES[output_stride] if atrous else (),
        decoder=decoder,
        aux=aux,
    )
    return initialise(model, weights=weights, pretrained=pretrained)
