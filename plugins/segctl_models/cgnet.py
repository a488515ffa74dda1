"""CGNet: Wu, Tang, Zhang and Zhang, "CGNet: A Light-weight Context Guided Network for Semantic Segmentation", 2018,
https://arxiv.org/abs/1811.08201. f_loc, f_sur, f_joi and f_glo are section 3.1's, the network is section 3.2's and
table 1's.

Where the paper leaves a choice, the authors' code (https://github.com/wutianyiRosun/CGNet) is followed, layer by layer
and in its order, so that its checkpoints differ in names alone:

- Batch normalisation uses eps 1e-3; the classifier and the other convolutions have no bias.
- A downsampling block reduces its joint feature from twice the channels by a 1x1 convolution and has no residual.
- Stage 2 weighs channels through an eighth of them, stage 3 through a sixteenth.
- The logits are enlarged without aligned corners.

The release's input is not segctl's. Its loader reads BGR and reverses the channels ("change to BGR"), which gives RGB;
from values of 0 to 255 it subtracts means that were computed of BGR, and divides by nothing. For its Cityscapes
checkpoints that is

    --model.channel_order rgb --model.mean "[72.39239876, 82.90891754, 73.15835921]" --model.std "[1, 1, 1]"

and for those of CamVid its code computes the means of the training images, in BGR as well: [105.66, 103.33, 99.63] over
the 468 images of train and val.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segctl import plugin
from segctl.errors import ConfigError

from .backbones.weights import initialise
from .layers.conv import depthwise
from .layers.input_normalisation import ChannelOrder, Channels, input_normalisation
from .layers.pooling import halved
from .layers.prelu import conv_norm_prelu, norm_prelu
from .layers.resize import resize

__all__ = ["CGNet", "cgnet"]


class CGNet(nn.Module):
    """CGNet_M3N21 by default: three stages of strides 2, 4 and 8, with the image injected into the first two.

    Args:
        num_classes: Number of classes C.
        blocks: Of stage 2 and stage 3, the downsampling ones included: the paper's M and N.
        dropout: Probability of a feature map's being dropped before the classifier.
        normalisation: Applied to the image first.

    `forward` maps images ``(N, 3, H, W)`` to ``{"out": (N, C, H, W)}``.
    """

    def __init__(self, num_classes: int, *, blocks: tuple[int, int], dropout: float, normalisation: nn.Module) -> None:
        super().__init__()
        self.normalisation = normalisation
        self.stage1 = nn.Sequential(conv_norm_prelu(3, 32, stride=2), conv_norm_prelu(32, 32), conv_norm_prelu(32, 32))
        self.injected1 = norm_prelu(32 + 3)
        self.down2 = DownsamplingBlock(32 + 3, 64, dilation=2, reduction=8)
        self.stage2 = nn.Sequential(*(CGBlock(64, dilation=2, reduction=8) for _ in range(blocks[0] - 1)))
        self.injected2 = norm_prelu(2 * 64 + 3)
        self.down3 = DownsamplingBlock(2 * 64 + 3, 128, dilation=4, reduction=16)
        self.stage3 = nn.Sequential(*(CGBlock(128, dilation=4, reduction=16) for _ in range(blocks[1] - 1)))
        self.norm_act3 = norm_prelu(2 * 128)
        self.classifier = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(2 * 128, num_classes, 1, bias=False))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.normalisation(image)
        half = halved(x)
        quarter = halved(half)
        x = self.injected1(torch.cat([self.stage1(x), half], dim=1))
        first = self.down2(x)
        x = self.injected2(torch.cat([self.stage2(first), first, quarter], dim=1))
        first = self.down3(x)
        x = self.norm_act3(torch.cat([first, self.stage3(first)], dim=1))
        return {"out": resize(self.classifier(x), image.shape[-2:])}


class CGBlock(nn.Module):
    """The context guided block, Figure 3 and equation 1: what is local, and what surrounds it, joined and weighed.

    Args:
        channels: Of input and output; half of them are worked on.
        dilation: Of f_sur, which sees the surrounding context.
        reduction: By what f_glo narrows the channels.

    The residual is added after f_glo ("global residual learning").
    """

    def __init__(self, channels: int, *, dilation: int, reduction: int) -> None:
        super().__init__()
        inner = channels // 2
        self.reduce = conv_norm_prelu(channels, inner, 1)
        self.local = depthwise(inner)
        self.surrounding = depthwise(inner, dilation=dilation)
        self.joint = norm_prelu(channels)
        self.weigh = GlobalContext(channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.reduce(x)
        joint = self.joint(torch.cat([self.local(inner), self.surrounding(inner)], dim=1))
        return x + self.weigh(joint)


class DownsamplingBlock(nn.Module):
    """The first block of a stage: a 3x3 convolution of stride 2 instead of the reduction, and no residual.

    `forward` maps ``(N, in, H, W)`` to ``(N, out, H/2, W/2)``, rounded up.
    """

    def __init__(self, in_channels: int, out_channels: int, *, dilation: int, reduction: int) -> None:
        super().__init__()
        self.down = conv_norm_prelu(in_channels, out_channels, stride=2)
        self.local = depthwise(out_channels)
        self.surrounding = depthwise(out_channels, dilation=dilation)
        self.joint = norm_prelu(2 * out_channels)
        self.reduce = nn.Conv2d(2 * out_channels, out_channels, 1, bias=False)
        self.weigh = GlobalContext(out_channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return self.weigh(self.reduce(self.joint(torch.cat([self.local(x), self.surrounding(x)], dim=1))))


class GlobalContext(nn.Module):
    """f_glo: weighs each channel of the joint feature by what two layers make of all channels' means."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, channels // reduction),
            nn.ReLU(),
            nn.Linear(channels // reduction, channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.layers(x.mean((2, 3)))[:, :, None, None]


@plugin.model(own_input=("mean", "std"))
def cgnet(
    num_classes: int,
    *,
    stage2_blocks: int = 3,
    stage3_blocks: int = 21,
    dropout: float = 0.0,
    channel_order: ChannelOrder = "rgb",
    mean: Channels | None = None,
    std: Channels | None = None,
    weights: str | None = None,
) -> nn.Module:
    """CGNet: small (0.5 million parameters), with context at every stage, trained from scratch.

    Args:
        num_classes: Number of classes.
        stage2_blocks: The paper's M.
        stage3_blocks: The paper's N.
        dropout: Probability of a feature map's being dropped before the classifier; the release has 0.1 as an option.
        channel_order: Of the image that the model sees; for weights from elsewhere.
        mean: What is subtracted from the image's channels, of values from 0 to 255; for weights from elsewhere. By
            default the image is normalised as for every model.
        std: What they are divided by then.
        weights: A local file to start from: a state dict of the whole model.

    Raises:
        ConfigError: An option is out of its range.
        WeightsError: The weights cannot be read, or do not fit.
    """
    for name, blocks in {"stage2_blocks": stage2_blocks, "stage3_blocks": stage3_blocks}.items():
        if blocks < 1:
            raise ConfigError(f"model.{name}: {blocks} is not a number of blocks, 1 or greater.")
    if not 0 <= dropout < 1:
        raise ConfigError(f"model.dropout: {dropout:g} is not a probability below 1.")
    model = CGNet(
        num_classes,
        blocks=(stage2_blocks, stage3_blocks),
        dropout=dropout,
        normalisation=input_normalisation(channel_order, mean, std),
    )
    return initialise(model, weights=weights)
