"""EncNet: Zhang, Dana, Shi, Zhang, Wang, Tyagi and Agrawal, "Context Encoding for Semantic Segmentation", 2018,
https://arxiv.org/abs/1803.08904.

Section 3.1 gives the context encoding module and the semantic encoding loss (SE-loss), section 3.2 the network; the
encoding layer is that of Zhang, Xue and Dana, "Deep TEN: Texture Encoding Network", 2017,
https://arxiv.org/abs/1612.02844.

Where the paper leaves a choice or its authors changed their mind, this is their release
(https://github.com/zhanghang1989/PyTorch-Encoding) without its later lateral connections: a ResNet has a stem of three
3x3 convolutions; the context module works on 512 channels; encodings are averaged over the codewords where the paper
sums them; the weighted features are added to the features, and do not replace them; and the third stage has an FCN head
where the paper has another context module with an SE-loss.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segctl import plugin

from . import backbones
from .backbones.deep_stem import create_deep_stem
from .backbones.weights import initialise
from .layers.conv import ConvNormAct
from .layers.heads import FCNHead
from .layers.resize import resize

__all__ = ["ContextEncoding", "EncNet", "Encoding", "encnet"]

CODEWORDS = 32  # K of the experiments, section 4


class EncNet(nn.Module):
    """A dilated ResNet under a context encoding module.

    Args:
        backbone: Maps images ``(N, 3, H, W)`` to a sequence of feature maps, the deepest last.
        num_classes: Number of classes C.
        aux: Whether there is an FCN head on the last feature map but one.

    `forward` gives ``{"out": (N, C, H, W)}``, in training also ``"se": (N, C)``, the logit of each class's presence in
    the image, and ``"aux": (N, C, h, w)``.
    """

    def __init__(self, backbone: nn.Module, num_classes: int, *, aux: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.conv5 = ConvNormAct(backbone.channels[-1], 512, 3)
        self.context = ContextEncoding(512, CODEWORDS)
        self.classifier = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(512, num_classes, 1))
        self.presence = nn.Linear(512, num_classes)
        self.aux_classifier = FCNHead(backbone.channels[-2], num_classes) if aux else None

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        features = self.backbone(image)
        x, encoding = self.context(self.conv5(features[-1]))
        outputs = {"out": resize(self.classifier(x), image.shape[-2:])}
        if self.training:
            outputs["se"] = self.presence(encoding)
            if self.aux_classifier is not None:
                outputs["aux"] = self.aux_classifier(features[-2])
        return outputs


class ContextEncoding(nn.Module):
    """The context encoding module: which feature maps to emphasise follows from the encoding of the whole image.

    Args:
        channels: Channels D of the features.
        codewords: Number of codewords K.

    `forward` maps ``(N, D, h, w)`` to features of that shape and the image's encoding ``(N, D)``.
    """

    def __init__(self, channels: int, codewords: int) -> None:
        super().__init__()
        self.projection = ConvNormAct(channels, channels, 1)
        self.encoding = Encoding(channels, codewords)
        self.norm = nn.BatchNorm1d(codewords)
        self.attention = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        encoding = F.relu(self.norm(self.encoding(self.projection(x)))).mean(dim=1)
        gamma = torch.sigmoid(self.attention(encoding))
        return F.relu(x + x * gamma[:, :, None, None]), encoding


class Encoding(nn.Module):
    """The encoding layer (section 3.1): the residuals to each codeword, summed over the image by soft assignment.

    Args:
        channels: Channels D of the features.
        codewords: Number of codewords K.

    `forward` maps features x ``(N, D, h, w)`` to encodings ``(N, K, D)``, in float32 also under autocast: sums over a
    whole image lose too much in 16 bits.

    The squared distances are expanded, so that no residual is held: memory grows with (D + K) h w, not with D K h w.
    """

    def __init__(self, channels: int, codewords: int) -> None:
        super().__init__()
        bound = (channels * codewords) ** -0.5
        self.codewords = nn.Parameter(torch.empty(codewords, channels).uniform_(-bound, bound))
        self.smoothing = nn.Parameter(torch.empty(codewords).uniform_(-1, 0))  # minus the paper's factors s_k

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = x.flatten(2).float()
            c = self.codewords.float()
            distances = x.square().sum(1, keepdim=True) - 2 * (c @ x) + c.square().sum(1, keepdim=True)
            assignment = F.softmax(self.smoothing.float()[:, None] * distances, dim=1)
            return assignment @ x.transpose(1, 2) - assignment.sum(2, keepdim=True) * c


@plugin.model(loss="encnet")
def encnet(
    num_classes: int,
    *,
    backbone: backbones.DilatedName = "resnet50",
    output_stride: Literal[8, 16] = 8,
    stem: backbones.Stem | None = None,
    aux: bool = True,
    pretrained: bool = False,
    weights: str | None = None,
) -> nn.Module:
    """EncNet: features weighted by an encoding of the whole image's content.

    Args:
        num_classes: Number of classes.
        backbone: Feature extractor.
        output_stride: Size of the image over that of the last feature map; 16 needs less memory and time.
        stem: First layers of a ResNet, by default ``v1s`` as in the authors' release. torchvision's ImageNet weights
            fit ``7x7`` only.
        aux: Train an auxiliary head on the third stage as well.
        pretrained: Start from torchvision's ImageNet weights, downloaded once; a ResNet needs the stem ``7x7``.
        weights: A local file to start from instead: a state dict of the whole model or of the backbone.

    Raises:
        ConfigError: There is a stem given for something else than a ResNet.
        WeightsError: The weights cannot be had, or do not fit.
    """
    features = create_deep_stem(backbone, output_stride=output_stride, stem=stem)
    return initialise(EncNet(features, num_classes, aux=aux), weights=weights, pretrained=pretrained)
