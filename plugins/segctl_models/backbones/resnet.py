"""ResNet as a feature extractor: He et al., "Deep Residual Learning for Image Recognition", 2016,
https://arxiv.org/abs/1512.03385; with ResNeXt (Xie et al. 2017, https://arxiv.org/abs/1611.05431) and Wide ResNet
(Zagoruyko and Komodakis 2016, https://arxiv.org/abs/1605.07146), whose blocks differ in groups and width only.

The networks are torchvision's (the stride of a bottleneck on its 3x3 convolution) without pooling and classifier.
Dilation instead of stride follows Yu et al., "Dilated Residual Networks", 2017, https://arxiv.org/abs/1705.09914.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torchvision.models import resnet as torchvision_resnet

from segctl.errors import ConfigError

from .weights import StateDict, imagenet_url

__all__ = ["ResNet", "ResNetName", "Stem"]

ResNetName = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
]

# The first layers, of stride 2 before the pooling. "7x7": one convolution, the paper's. "v1c" and "v1s": three 3x3 ones
# (Inception v3's; "ResNet-C" of He et al. 2019, https://arxiv.org/abs/1812.01187), v1s with twice the channels, as in
# the authors' releases of PSPNet and EncNet.
Stem = Literal["7x7", "v1c", "v1s"]

_STEM_CHANNELS = {"v1c": (32, 32, 64), "v1s": (64, 64, 128)}

_BASIC, _BOTTLENECK = torchvision_resnet.BasicBlock, torchvision_resnet.Bottleneck

# Block, blocks per stage, groups, and channels per group of the first stage.
_NETWORKS: dict[str, tuple[type[nn.Module], list[int], int, int]] = {
    "resnet18": (_BASIC, [2, 2, 2, 2], 1, 64),
    "resnet34": (_BASIC, [3, 4, 6, 3], 1, 64),
    "resnet50": (_BOTTLENECK, [3, 4, 6, 3], 1, 64),
    "resnet101": (_BOTTLENECK, [3, 4, 23, 3], 1, 64),
    "resnet152": (_BOTTLENECK, [3, 8, 36, 3], 1, 64),
    "resnext50_32x4d": (_BOTTLENECK, [3, 4, 6, 3], 32, 4),
    "resnext101_32x8d": (_BOTTLENECK, [3, 4, 23, 3], 32, 8),
    "resnext101_64x4d": (_BOTTLENECK, [3, 4, 23, 3], 64, 4),
    "wide_resnet50_2": (_BOTTLENECK, [3, 4, 6, 3], 1, 128),
    "wide_resnet101_2": (_BOTTLENECK, [3, 4, 23, 3], 1, 128),
}


class ResNet(torchvision_resnet.ResNet):
    """The four stages of a ResNet.

    Args:
        name: Depth, groups and width of the network.
        output_stride: Size of the image over that of the last feature map. Below 32, the last stages are dilated.
        multi_grid: Factors on the dilation of the last stage's blocks, where it is dilated (DeepLabv3, section 3.1).
            Its length is that of the stage; None leaves all blocks alike, but see `contracted`.
        stem: First layers, see `Stem`.
        contracted: Whether the first block of a dilated stage keeps the dilation of the stage before, as in
            torchvision, mmsegmentation and PyTorch-Encoding; else it is dilated like the others, as in semseg.
        stride2: Whether the stem's feature map, before its pooling, comes first.

    Attributes:
        channels: Channels of the feature maps.
        strides: Size of the image over theirs.
        imagenet: Address of the ImageNet weights of torchvision's classifier; None for another stem than its own.
        stem: The stem's name.

    Raises:
        ConfigError: There is not one factor for each block of the last stage.

    `forward` maps images ``(N, 3, H, W)`` to the feature maps of ``layer1`` to ``layer4``, ``(N, channels[i], h, w)``,
    of heights and widths rounded up.
    """

    def __init__(
        self,
        name: ResNetName,
        *,
        output_stride: Literal[8, 16, 32] = 32,
        multi_grid: Sequence[int] | None = None,
        stem: Stem = "7x7",
        contracted: bool = True,
        stride2: bool = False,
    ) -> None:
        block, depths, groups, width = _NETWORKS[name]
        if multi_grid is not None and len(multi_grid) != depths[3]:
            raise ConfigError(
                f"The last stage of {name} has {depths[3]} blocks, but the multi-grid has {len(multi_grid)} factors.",
                "Leave the multi-grid away, or choose a deeper ResNet.",
            )
        super().__init__(block, depths, groups=groups, width_per_group=width)
        del self.avgpool, self.fc  # parameters that nothing uses would break distributed training
        self.imagenet = imagenet_url(name) if stem == "7x7" else None
        self.stem = stem
        self.strides = (4, 8, min(16, output_stride), output_stride)
        self.channels = tuple(width * block.expansion for width in (64, 128, 256, 512))
        if stem != "7x7":
            self._deepen(_STEM_CHANNELS[stem], block, depths[0])
        self.stride2 = stride2
        if stride2:
            self.strides = (2, *self.strides)
            self.channels = (self.bn1.num_features, *self.channels)
        if output_stride == 8:
            _dilate(self.layer3, _dilations(2, depths[2], contracted))
        if output_stride <= 16:
            dilation = 32 // output_stride
            grid = multi_grid and [dilation * factor for factor in multi_grid]
            _dilate(self.layer4, grid or _dilations(dilation, depths[3], contracted))

    def _deepen(self, widths: tuple[int, int, int], block: type[nn.Module], depth: int) -> None:
        """Replaces the 7x7 convolution by three 3x3 ones, and the first stage by one that takes their channels."""
        first, second, last = widths
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, first, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(inplace=True),
            nn.Conv2d(first, second, 3, padding=1, bias=False),
            nn.BatchNorm2d(second),
            nn.ReLU(inplace=True),
            nn.Conv2d(second, last, 3, padding=1, bias=False),
        )
        self.bn1 = nn.BatchNorm2d(last)
        self.inplanes = last
        self.layer1 = self._make_layer(block, 64, depth)
        for module in (*self.conv1.modules(), *self.layer1.modules()):
            if isinstance(module, nn.Conv2d):  # as torchvision does for the rest
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        stem = self.relu(self.bn1(self.conv1(x)))
        stage1 = self.layer1(self.maxpool(stem))
        stage2 = self.layer2(stage1)
        stage3 = self.layer3(stage2)
        stages = stage1, stage2, stage3, self.layer4(stage3)
        return (stem, *stages) if self.stride2 else stages

    def from_imagenet(self, state: StateDict) -> StateDict:
        """Also takes the names that mmsegmentation (``stem.0``) and semseg (``conv2``) gave a stem of 3x3 layers."""
        stem = _MMSEG if "stem.0.weight" in state else _SEMSEG if "conv2.weight" in state else {}
        return {
            ".".join((stem.get(layer, layer), entry)): value
            for (layer, _, entry), value in ((key.rpartition("."), value) for key, value in state.items())
            if layer != "fc"
        }


_MMSEG = {**{f"stem.{index}": f"conv1.{index}" for index in (0, 1, 3, 4, 6)}, "stem.7": "bn1"}
_SEMSEG = {"conv1": "conv1.0", "bn1": "conv1.1", "conv2": "conv1.3", "bn2": "conv1.4", "conv3": "conv1.6", "bn3": "bn1"}


def _dilations(dilation: int, blocks: int, contracted: bool) -> list[int]:
    return [dilation // 2 if contracted else dilation] + [dilation] * (blocks - 1)


def _dilate(stage: nn.Sequential, dilations: Sequence[int]) -> None:
    """Removes the stride of `stage` and dilates the 3x3 convolutions of its blocks instead."""
    for block, dilation in zip(stage, dilations, strict=True):
        for module in block.modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)
                if module.kernel_size == (3, 3):
                    module.dilation = module.padding = (dilation, dilation)
