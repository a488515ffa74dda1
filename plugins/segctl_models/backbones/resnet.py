"""ResNet as a feature extractor: He et al., "Deep Residual Learning for Image Recognition", 2016,
https://arxiv.org/abs/1512.03385.

The network is torchvision's (7x7 stem, the stride of a bottleneck on its 3x3 convolution) without pooling and
classifier. Dilation instead of stride follows Yu et al., "Dilated Residual Networks", 2017,
https://arxiv.org/abs/1705.09914.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torchvision.models import resnet as torchvision_resnet

from .weights import StateDict, imagenet_url

__all__ = ["ResNet", "ResNetName"]

ResNetName = Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]

_STAGES: dict[str, tuple[type[nn.Module], list[int]]] = {
    "resnet18": (torchvision_resnet.BasicBlock, [2, 2, 2, 2]),
    "resnet34": (torchvision_resnet.BasicBlock, [3, 4, 6, 3]),
    "resnet50": (torchvision_resnet.Bottleneck, [3, 4, 6, 3]),
    "resnet101": (torchvision_resnet.Bottleneck, [3, 4, 23, 3]),
    "resnet152": (torchvision_resnet.Bottleneck, [3, 8, 36, 3]),
}


class ResNet(torchvision_resnet.ResNet):
    """The four stages of a ResNet.

    Args:
        name: Depth of the network.
        output_stride: Size of the image over that of the last feature map. Below 32, the last stages are dilated.
        multi_grid: Factors on the dilation of the last stage's blocks, where it is dilated (DeepLabv3, section 3.1).
            Its length is that of the stage; None leaves the dilation of torchvision's segmentation models, whose first
            block of a dilated stage still has the dilation of the stage before.

    Attributes:
        channels: Channels of the four feature maps.
        strides: Size of the image over theirs.
        imagenet: Address of the ImageNet weights of torchvision's classifier.

    `forward` maps images ``(N, 3, H, W)`` to the feature maps of ``layer1`` to ``layer4``, ``(N, channels[i], h, w)``.
    """

    def __init__(
        self,
        name: ResNetName,
        *,
        output_stride: Literal[8, 16, 32] = 32,
        multi_grid: Sequence[int] | None = None,
    ) -> None:
        block, depths = _STAGES[name]
        super().__init__(block, depths)
        del self.avgpool, self.fc  # parameters that nothing uses would break distributed training
        self.imagenet = imagenet_url(name)
        self.strides = (4, 8, min(16, output_stride), output_stride)
        self.channels = tuple(width * block.expansion for width in (64, 128, 256, 512))
        if output_stride == 8:
            _dilate(self.layer3, _contracted(2, depths[2]))
        if output_stride <= 16:
            dilation = 32 // output_stride
            grid = multi_grid and [dilation * factor for factor in multi_grid]
            _dilate(self.layer4, grid or _contracted(dilation, depths[3]))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        stage1 = self.layer1(x)
        stage2 = self.layer2(stage1)
        stage3 = self.layer3(stage2)
        return stage1, stage2, stage3, self.layer4(stage3)

    def from_imagenet(self, state: StateDict) -> StateDict:
        return {key: value for key, value in state.items() if not key.startswith("fc.")}


def _contracted(dilation: int, blocks: int) -> list[int]:
    return [dilation // 2] + [dilation] * (blocks - 1)


def _dilate(stage: nn.Sequential, dilations: Sequence[int]) -> None:
    """Removes the stride of `stage` and dilates the 3x3 convolutions of its blocks instead."""
    for block, dilation in zip(stage, dilations, strict=True):
        for module in block.modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)
                if module.kernel_size == (3, 3):
                    module.dilation = module.padding = (dilation, dilation)
