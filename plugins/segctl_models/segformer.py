"""SegFormer: Xie, Wang, Yu, Anandkumar, Alvarez and Luo, "SegFormer: Simple and Efficient Design for Semantic
Segmentation with Transformers", 2021, https://arxiv.org/abs/2105.15203; the encoder is ``backbones/mit.py``.

Parameters are named as in the authors' release (NVlabs/SegFormer), whose decoder normalises behind the layer that fuses
the maps, drops whole channels with probability 0.1 before the classifier, and holds a second classifier that nothing
uses: that is left out. There are then as many parameters as in the authors' models on the Hugging Face hub, at 150
classes 3,752,694 (B0), 13,715,798 (B1), 27,461,974 (B2), 47,337,814 (B3), 64,108,374 (B4) and 84,708,694 (B5).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from .backbones.mit import MiT
from .backbones.mit_hub import from_hub
from .backbones.weights import StateDict, initialise, under_backbone
from .layers.resize import resize

__all__ = ["SegFormer", "segformer"]

WIDTHS = {"b0": 256, "b1": 256, "b2": 768, "b3": 768, "b4": 768, "b5": 768}  # of the decoder, Table 6


class SegFormer(nn.Module):
    """Figure 2.

    Args:
        backbone: Feature extractor with feature maps of strides 4, 8, 16 and 32.
        num_classes: Number of classes C.
        width: Channels of the decoder.

    `forward` maps images ``(N, 3, H, W)`` to ``{"out": (N, C, H, W)}``.
    """

    def __init__(self, backbone: nn.Module, num_classes: int, width: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.decode_head = AllMLPDecoder(backbone.channels, num_classes, width)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"out": resize(self.decode_head(self.backbone(image)), image.shape[-2:])}


class AllMLPDecoder(nn.Module):
    """Section 3.2: every map to the same width and size, fused and classified by linear layers.

    Args:
        channels: Channels of the four maps, from shallow to deep.
        num_classes: Number of classes C.
        width: Channels in between.

    Maps the four maps to logits ``(N, C, h, w)`` of the size of the first.
    """

    def __init__(self, channels: Sequence[int], num_classes: int, width: int) -> None:
        super().__init__()
        self.linear_c4, self.linear_c3, self.linear_c2, self.linear_c1 = (
            nn.ModuleDict({"proj": nn.Linear(inputs, width)}) for inputs in reversed(channels)
        )
        self.linear_fuse = nn.Sequential(
            OrderedDict(conv=nn.Conv2d(4 * width, width, 1, bias=False), bn=nn.BatchNorm2d(width), activate=nn.ReLU())
        )
        self.dropout = nn.Dropout2d(0.1)
        self.linear_pred = nn.Conv2d(width, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        c1, c2, c3, c4 = features
        conv, norm, act = self.linear_fuse
        # The fusing layer takes the maps' concatenation, c4 first. As a 1x1 convolution and resizing commute, each map
        # goes through its share of the weights at its own size. The result is the same; B0 takes 5.5 instead of the
        # paper's 8.4 GFLOPs at 512x512, and no map of four times the width is held.
        to_c4, to_c3, to_c2, to_c1 = conv.weight.chunk(4, dim=1)
        fused = F.conv2d(_linear(self.linear_c1, c1), to_c1)
        for x, linear, share in ((c2, self.linear_c2, to_c2), (c3, self.linear_c3, to_c3), (c4, self.linear_c4, to_c4)):
            fused = fused + resize(F.conv2d(_linear(linear, x), share), c1.shape[-2:])
        return self.linear_pred(self.dropout(act(norm(fused))))


def _linear(layer: nn.ModuleDict, x: Tensor) -> Tensor:
    """Applies ``layer["proj"]`` to the channels of ``(N, C, h, w)``."""
    return layer["proj"](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def segformer(
    num_classes: int,
    *,
    variant: Literal["b0", "b1", "b2", "b3", "b4", "b5"] = "b0",
    weights: str | None = None,
) -> nn.Module:
    """SegFormer: a transformer of four resolutions without positional encoding, and a decoder of linear layers.

    It is trained with AdamW and starts from ImageNet weights; from scratch it needs far more data than convolutions do.

    Args:
        num_classes: Number of classes.
        variant: Size of the network, from 3.7 (b0) to 84.6 (b5) million parameters.
        weights: A local file to start from: a state dict of the whole model, of its backbone, or of one of the authors'
            models: their ImageNet classifier (``mit_b0.pth`` and so on), or ``pytorch_model.bin`` of ``nvidia/mit-b0``
            or ``nvidia/segformer-b0-...`` on the Hugging Face hub. torchvision has none.

    Raises:
        WeightsError: The weights cannot be read, or do not fit.
    """
    model = SegFormer(MiT(f"mit_{variant}"), num_classes, WIDTHS[variant])
    return initialise(model, weights=weights, from_imagenet=_from_authors)


def _from_authors(model: nn.Module, state: StateDict) -> StateDict:
    """Of a model on the hub that segments, the decoder as well."""
    decoder = {key: value for key, value in from_hub(state).items() if key.startswith("decode_head.")}
    return {**under_backbone(model, state), **decoder}
