"""HRNet with object-contextual representations: Yuan, Chen and Wang, "Object-Contextual Representations for Semantic
Segmentation", 2020, https://arxiv.org/abs/1909.11065. The section numbers below are the paper's.

What the paper leaves open is as in the authors' release (HRNet/HRNet-Semantic-Segmentation, branch HRNet-OCR), also the
order of the parameters: relations are divided by the root of their number of channels, the 3x3 convolution and the head
of the soft regions have biases, and dropout of 0.05 comes before the classifier.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from . import backbones
from .backbones.hrnet import HRNetName
from .backbones.weights import initialise
from .hrnet import representation_head
from .layers.attention import attend
from .layers.conv import ConvNormAct
from .layers.resize import resize, resize_and_concat

__all__ = ["OCR", "HRNetOCR", "hrnet_ocr"]


class HRNetOCR(nn.Module):
    """Section 3.3, Figure 3.

    Args:
        backbone: Feature extractor whose last four feature maps are the streams of an HRNet.
        num_classes: Number of classes C.

    `forward` gives ``{"out": (N, C, H, W)}``, in training also ``"aux"``: the logits ``(N, C, h, w)`` of the soft
    object regions, which section 3.2 trains with the labels.
    """

    def __init__(self, backbone: nn.Module, num_classes: int) -> None:
        super().__init__()
        channels = sum(backbone.channels[-4:])
        self.backbone = backbone
        self.pixels = ConvNormAct(channels, 512, 3, bias=True)
        self.ocr = OCR(512, 256)
        self.classifier = nn.Conv2d(512, num_classes, 1)
        # The soft object regions. Called so as in the release, though more than the loss needs them.
        self.aux_head = representation_head(channels, num_classes)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        representation = resize_and_concat(self.backbone(image)[-4:])
        regions = self.aux_head(representation)
        augmented = self.ocr(self.pixels(representation), regions)
        outputs = {"out": resize(self.classifier(augmented), image.shape[-2:])}
        if self.training:
            outputs["aux"] = regions
        return outputs


class OCR(nn.Module):
    """Section 3.2: each pixel is described by the objects of the image as well, as far as it relates to them.

    Args:
        channels: Channels of the pixels' representations, and of the result.
        key_channels: Channels in which pixels and objects are compared.

    `forward` takes pixels ``(N, channels, h, w)`` and logits of soft object regions ``(N, C, h, w)`` to augmented
    representations ``(N, channels, h, w)``. Its attention is from pixels to C objects, never to all other pixels.
    """

    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.query = nn.Sequential(  # the transformations of section 3.3: phi, psi, delta, rho and g, in this order
            ConvNormAct(channels, key_channels, 1), ConvNormAct(key_channels, key_channels, 1)
        )
        self.key = nn.Sequential(ConvNormAct(channels, key_channels, 1), ConvNormAct(key_channels, key_channels, 1))
        self.value = ConvNormAct(channels, key_channels, 1)
        self.context = ConvNormAct(key_channels, channels, 1)
        self.augment = nn.Sequential(ConvNormAct(2 * channels, channels, 1), nn.Dropout2d(0.05))

    def forward(self, pixels: Tensor, regions: Tensor) -> Tensor:
        objects = gather(pixels, regions)
        # "Object contextual representations": the relations of a pixel to all objects are a softmax.
        query, key, value = self.query(pixels), self.key(objects), self.value(objects)
        context = attend(query, key, value, scale=query.shape[1] ** -0.5)
        return self.augment(torch.cat([self.context(context), pixels], dim=1))


def gather(pixels: Tensor, regions: Tensor) -> Tensor:
    """The "object region representations": means of all pixels, weighted by the softmax of a region over the image.

    Maps pixels ``(N, channels, h, w)`` and logits ``(N, C, h, w)`` to objects ``(N, channels, C, 1)``.
    """
    share = regions.flatten(2).softmax(dim=2)
    return (pixels.flatten(2) @ share.mT).unsqueeze(3)


def hrnet_ocr(num_classes: int, *, backbone: HRNetName = "hrnet_w18", weights: str | None = None) -> nn.Module:
    """HRNet with object-contextual representations: pixels see the objects that the image consists of.

    Args:
        num_classes: Number of classes.
        backbone: Feature extractor; after w comes the width of its stream of highest resolution.
        weights: A local file to start from: a state dict of the whole model, of its backbone, or of the authors' or
            timm's ImageNet classifier; torchvision has none.

    Raises:
        WeightsError: The weights cannot be read, or do not fit.
    """
    return initialise(HRNetOCR(backbones.create(backbone), num_classes), weights=weights)
