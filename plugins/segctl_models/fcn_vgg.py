"""FCN-32s, FCN-16s and FCN-8s: Long, Shelhamer and Darrell, "Fully Convolutional Networks for Semantic Segmentation",
2015, https://arxiv.org/abs/1411.4038.

VGG16 with its fully connected layers turned into convolutions (section 3.1: fc6 7x7, fc7 1x1, 4096 channels each),
scored per class at stride 32 and, for 16s and 8s, joined by scores of pool4 and pool3 (section 4.2). Three points need
a word:

- Upsampling is bilinear interpolation without parameters. The paper fixes the last such layer to that and starts the
  others from it; the authors' released networks fix all of them (their learning rate is 0).
- The layer that scores fc7 starts from a normal distribution like fc6 and fc7, not from zero as in section 4.3, where
  neither was found to learn better or faster: from zero, the first step would reach no layer before it.
- The paper pads the image by 100 pixels so that fc6 fits also small images, and crops the scores accordingly. Here fc6
  itself is padded by 3, which keeps the scores where the features are. Pooling rounds up, as in Caffe, and what is
  upsampled beyond the image is cut off: the cells of every score map stay aligned with the pixels they describe, at any
  size.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from segctl import plugin

from .backbones import vgg
from .backbones.weights import StateDict, initialise, under_backbone

__all__ = ["FCN", "fcn8s", "fcn16s", "fcn32s"]


class FCN(nn.Module):
    """The three networks of section 4.2, by the stride of the finest prediction.

    Args:
        num_classes: Number of classes C.
        backbone: VGG variant.
        stride: 32, 16 or 8.

    `forward` maps images ``(N, 3, H, W)`` to ``{"out": (N, C, H, W)}``.
    """

    def __init__(self, num_classes: int, backbone: vgg.VGGName, stride: Literal[32, 16, 8]) -> None:
        super().__init__()
        self.backbone = vgg.VGG(backbone)
        self.fc6 = _normal(nn.Conv2d(512, 4096, 7, padding=3))
        self.fc7 = _normal(nn.Conv2d(4096, 4096, 1))
        self.drop = nn.Dropout(0.5)
        self.score_fr = _normal(nn.Conv2d(4096, num_classes, 1))
        # Zero at first, "so that the net starts with unmodified predictions" (section 4.2).
        self.score_pool4 = _zero(nn.Conv2d(512, num_classes, 1)) if stride <= 16 else None
        self.score_pool3 = _zero(nn.Conv2d(256, num_classes, 1)) if stride <= 8 else None

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        _, _, pool3, pool4, pool5 = self.backbone(image)
        x = self.drop(F.relu(self.fc6(pool5)))
        x = self.drop(F.relu(self.fc7(x)))
        score, stride = self.score_fr(x), 32
        for skip, pooled in ((self.score_pool4, pool4), (self.score_pool3, pool3)):
            if skip is not None:
                score, stride = skip(pooled) + _upsample(score, 2, pooled), stride // 2
        return {"out": _upsample(score, stride, image)}


def _upsample(score: Tensor, factor: int, like: Tensor) -> Tensor:
    """Interpolates by exactly `factor` and cuts off what exceeds the height and width of `like`."""
    height, width = like.shape[-2:]
    return F.interpolate(score, scale_factor=factor, mode="bilinear", align_corners=False)[..., :height, :width]


def _normal(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.zeros_(conv.bias)
    return conv


def _zero(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv


def _from_imagenet(model: nn.Module, state: StateDict) -> StateDict:
    """VGG16's first two fully connected layers become fc6, a 7x7 convolution, and fc7, a 1x1 one (section 3.1)."""
    converted = dict(under_backbone(model, state))
    for source, target, size in (("classifier.0", "fc6", 7), ("classifier.3", "fc7", 1)):
        weight, bias = state.get(f"{source}.weight"), state.get(f"{source}.bias")
        if weight is not None and bias is not None:
            converted[f"{target}.weight"] = weight.reshape(len(bias), -1, size, size)
            converted[f"{target}.bias"] = bias
    return converted


def _fcn(
    num_classes: int, backbone: vgg.VGGName, stride: Literal[32, 16, 8], pretrained: bool, weights: str | None
) -> nn.Module:
    model = FCN(num_classes, backbone, stride)
    # The authors train 16s from a trained 32s, and 8s from 16s: such a file has no scores yet for the new skips.
    skips = ("score_pool4", "score_pool3")
    return initialise(model, weights=weights, pretrained=pretrained, from_imagenet=_from_imagenet, optional=skips)


# fc6 and fc7 come from ImageNet as well: they are trained like the backbone, not like the new layers.
_pretrained_parts = plugin.model(backbone=("backbone.", "fc6.", "fc7."))


@_pretrained_parts
def fcn32s(
    num_classes: int,
    *,
    backbone: vgg.VGGName = "vgg16",
    pretrained: bool = False,
    weights: str | None = None,
) -> nn.Module:
    """FCN-32s on VGG16: predictions from the last layer alone.

    Args:
        num_classes: Number of classes.
        backbone: VGG16 without or with batch normalisation; the paper's is without.
        pretrained: Start from torchvision's ImageNet weights, those of the fully connected layers included, downloaded
            once.
        weights: A local file to start from instead: a state dict of the whole model or of the ImageNet classifier.

    Raises:
        WeightsError: The weights cannot be had, or do not fit.
    """
    return _fcn(num_classes, backbone, 32, pretrained, weights)


@_pretrained_parts
def fcn16s(
    num_classes: int,
    *,
    backbone: vgg.VGGName = "vgg16",
    pretrained: bool = False,
    weights: str | None = None,
) -> nn.Module:
    """FCN-16s on VGG16: predictions from the last layer and pool4.

    Args:
        num_classes: Number of classes.
        backbone: VGG16 without or with batch normalisation; the paper's is without.
        pretrained: Start from torchvision's ImageNet weights, those of the fully connected layers included, downloaded
            once.
        weights: A local file to start from instead: a state dict of the whole model (also of a trained fcn32s, as in
            the paper) or of the ImageNet classifier.

    Raises:
        WeightsError: The weights cannot be had, or do not fit.
    """
    return _fcn(num_classes, backbone, 16, pretrained, weights)


@_pretrained_parts
def fcn8s(
    num_classes: int,
    *,
    backbone: vgg.VGGName = "vgg16",
    pretrained: bool = False,
    weights: str | None = None,
) -> nn.Module:
    """FCN-8s on VGG16: predictions from the last layer, pool4 and pool3.

    Args:
        num_classes: Number of classes.
        backbone: VGG16 without or with batch normalisation; the paper's is without.
        pretrained: Start from torchvision's ImageNet weights, those of the fully connected layers included, downloaded
            once.
        weights: A local file to start from instead: a state dict of the whole model (also of a trained fcn16s, as in
            the paper) or of the ImageNet classifier.

    Raises:
        WeightsError: The weights cannot be had, or do not fit.
    """
    return _fcn(num_classes, backbone, 8, pretrained, weights)
