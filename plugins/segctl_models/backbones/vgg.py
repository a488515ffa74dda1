"""VGG as a feature extractor: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", 2015, https://arxiv.org/abs/1409.1556, configuration D. Parameters are named as in torchvision.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from .weights import StateDict, imagenet_url

__all__ = ["VGG", "VGGName"]

VGGName = Literal["vgg16", "vgg16_bn"]

_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


class VGG(nn.Module):
    """The five stages of VGG-16, each closed by a 2x2 pooling that rounds up, as Caffe's does: any size passes.

    Args:
        name: With (``vgg16_bn``) or without (``vgg16``) batch normalisation after each convolution.

    Attributes:
        channels: Channels of the five feature maps.
        strides: Size of the image over theirs.
        imagenet: Address of the ImageNet weights of torchvision's classifier.

    `forward` maps images ``(N, 3, H, W)`` to the feature maps after each pooling: stride 2, 4, 8, 16 and 32, rounded
    up.
    """

    channels = tuple(width for width, _ in _STAGES)
    strides = (2, 4, 8, 16, 32)

    def __init__(self, name: VGGName) -> None:
        super().__init__()
        self.imagenet = imagenet_url(name)
        layers: list[nn.Module] = []
        channels = 3
        for width, convolutions in _STAGES:
            for _ in range(convolutions):
                layers.append(_he_normal(nn.Conv2d(channels, width, 3, padding=1)))
                if name == "vgg16_bn":
                    layers.append(nn.BatchNorm2d(width))
                layers.append(nn.ReLU(inplace=True))
                channels = width
            layers.append(nn.MaxPool2d(2, stride=2, ceil_mode=True))
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        pooled = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                pooled.append(x)
        return tuple(pooled)

    def from_imagenet(self, state: StateDict) -> StateDict:
        return {key: value for key, value in state.items() if not key.startswith("classifier.")}


def _he_normal(conv: nn.Conv2d) -> nn.Conv2d:
    """He et al. 2015: without it, sixteen layers without normalisation do not start to learn from scratch."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(conv.bias)
    return conv
