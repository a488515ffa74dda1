"""ESPNet: Mehta, Rastegari, Caspi, Shapiro and Hajishirzi, "ESPNet: Efficient Spatial Pyramid of Dilated Convolutions
for Semantic Segmentation", 2018, https://arxiv.org/abs/1803.06815. The block is section 3.1's, the network Figure 4's:
ESPNet-C is its encoder with a classifier, ESPNet has the light-weight decoder as well.

Where the paper leaves a choice, the authors' code (https://github.com/sacmehta/ESPNet) is followed, layer by layer and
in its order, so that its checkpoints differ in names alone: batch normalisation uses eps 1e-3, no convolution has a
bias, and in ESPNet the classifier of ESPNet-C is the decoder's first projection. Added is what makes any size work:
an odd height or width is rounded up when halved, and what is enlarged is cut to the size of its counterpart. With fewer
than five classes the block in the decoder has a branch for each, for it is no wider.

The paper trains ESPNet-C first, and ESPNet from its weights: `weights` takes those of an ESPNet-C for that.

The release's input is not segctl's: BGR, from which mean and standard deviation of Cityscapes are taken in values of 0
to 255, and which is then divided by 255 once more. For its checkpoints (20 classes, the last one is void) that is

    --model.channel_order bgr --model.mean "[72.3923111, 82.90893555, 73.15840149]"
    --model.std "[11556.40148, 11768.98828, 11453.28244]"
"""

from __future__ import annotations

from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor, nn

from segctl import plugin
from segctl.errors import ConfigError

from .backbones.weights import initialise
from .layers.input_normalisation import ChannelOrder, Channels, input_normalisation
from .layers.pooling import halved
from .layers.prelu import EPS, conv_norm_prelu, norm_prelu
from .layers.resize import resize

__all__ = ["ESPNet", "espnet"]

DILATIONS = (1, 2, 4, 8, 16)


class ESPNet(nn.Module):
    """ESPNet or, without the decoder, ESPNet-C.

    Args:
        num_classes: Number of classes C.
        blocks: ESP blocks of level 2 and level 3: the paper's alpha 2 and alpha 3, the release's p and q.
        decoder: Whether there is one.
        normalisation: Applied to the image first.

    `forward` maps images ``(N, 3, H, W)`` to ``{"out": (N, C, H, W)}``.
    """

    def __init__(self, num_classes: int, *, blocks: tuple[int, int], decoder: bool, normalisation: nn.Module) -> None:
        super().__init__()
        self.normalisation = normalisation
        self.backbone = Encoder(num_classes, blocks)
        self.decoder = Decoder(num_classes) if decoder else None

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        half, quarter, eighth = self.backbone(self.normalisation(image))
        if self.decoder is None:
            return {"out": resize(eighth, image.shape[-2:])}
        return {"out": self.decoder(half, quarter, eighth, image.shape[-2:])}


class Encoder(nn.Module):
    """Strides 2, 4 and 8, with the image injected into the first two levels.

    `forward` gives ``(N, 19, H/2, W/2)``, ``(N, 131, H/4, W/4)`` and logits ``(N, C, H/8, W/8)``, rounded up.
    """

    def __init__(self, num_classes: int, blocks: tuple[int, int]) -> None:
        super().__init__()
        self.level1 = conv_norm_prelu(3, 16, stride=2)
        self.injected1 = norm_prelu(16 + 3)
        self.down2 = ESP(16 + 3, 64, down=True)
        self.level2 = nn.Sequential(*(ESP(64, 64, residual=True) for _ in range(blocks[0])))
        self.injected2 = norm_prelu(2 * 64 + 3)
        self.down3 = ESP(2 * 64 + 3, 128, down=True)
        self.level3 = nn.Sequential(*(ESP(128, 128, residual=True) for _ in range(blocks[1])))
        self.norm_act3 = norm_prelu(2 * 128)
        self.classifier = nn.Conv2d(2 * 128, num_classes, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image = halved(x)
        half = self.injected1(torch.cat([self.level1(x), image], dim=1))
        first = self.down2(half)
        quarter = self.injected2(torch.cat([self.level2(first), first, halved(image)], dim=1))
        first = self.down3(quarter)
        eighth = self.norm_act3(torch.cat([first, self.level3(first)], dim=1))
        return half, quarter, self.classifier(eighth)


class ESP(nn.Module):
    """Efficient spatial pyramid: reduced to a fifth of the channels, split into five dilations, summed up, merged.

    The sums of all branches but the first ("hierarchical feature fusion") are what keeps the dilations from leaving a
    grid.

    Args:
        down: Reduce by a 3x3 convolution of stride 2 instead of a 1x1 one.
        residual: Add the input, before the normalisation.
    """

    def __init__(self, in_channels: int, out_channels: int, *, down: bool = False, residual: bool = False) -> None:
        super().__init__()
        dilations = DILATIONS[:out_channels]
        inner = out_channels // len(dilations)
        kernel, stride = (3, 2) if down else (1, 1)
        self.reduce = nn.Conv2d(in_channels, inner, kernel, stride=stride, padding=kernel // 2, bias=False)
        rest = out_channels - (len(dilations) - 1) * inner  # what does not divide by five goes to the first branch
        self.branches = nn.ModuleList(
            nn.Conv2d(inner, rest if d == 1 else inner, 3, padding=d, dilation=d, bias=False) for d in dilations
        )
        self.norm_act = norm_prelu(out_channels)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        first, *others = [branch(reduced) for branch in self.branches]
        out = torch.cat([first, *accumulate(others)], dim=1)
        return self.norm_act(x + out if self.residual else out)


class Decoder(nn.Module):
    """From the encoder's three sizes to logits of the image's: enlarge, concatenate, fuse, twice, and enlarge again.

    All of it is as wide as there are classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.project2 = nn.Conv2d(2 * 64 + 3, num_classes, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(num_classes, eps=EPS)
        self.fuse1 = conv_norm_prelu(16 + 3 + num_classes, num_classes)
        self.up3 = nn.ConvTranspose2d(num_classes, num_classes, 2, stride=2, bias=False)
        self.fuse2 = nn.Sequential(norm_prelu(2 * num_classes), ESP(2 * num_classes, num_classes))
        self.up2 = nn.ConvTranspose2d(num_classes, num_classes, 2, stride=2, bias=False)
        self.norm_act2 = norm_prelu(num_classes)
        self.up1 = nn.ConvTranspose2d(num_classes, num_classes, 2, stride=2, bias=False)

    def forward(self, half: Tensor, quarter: Tensor, eighth: Tensor, size: torch.Size) -> Tensor:
        x = _cut(self.up3(self.norm3(eighth)), quarter.shape[-2:])
        x = self.fuse2(torch.cat([self.project2(quarter), x], dim=1))
        x = self.norm_act2(_cut(self.up2(x), half.shape[-2:]))
        return _cut(self.up1(self.fuse1(torch.cat([x, half], dim=1))), size)


def _cut(x: Tensor, size: torch.Size) -> Tensor:
    """The first rows and columns: twice a size that was rounded up is one too many."""
    return x[..., : size[0], : size[1]]


@plugin.model(own_input=("mean", "std"))
def espnet(
    num_classes: int,
    *,
    decoder: bool = True,
    p: int = 2,
    q: Literal[3, 5, 8] = 8,
    channel_order: ChannelOrder = "rgb",
    mean: Channels | None = None,
    std: Channels | None = None,
    weights: str | None = None,
) -> nn.Module:
    """ESPNet: very small (0.36 million parameters) and fast, trained from scratch.

    Args:
        num_classes: Number of classes.
        decoder: Without it, it is ESPNet-C, whose logits are enlarged from an eighth of the image's size.
        p: ESP blocks of level 2, the paper's alpha 2.
        q: ESP blocks of level 3, the paper's alpha 3.
        channel_order: Of the image that the model sees; for weights from elsewhere.
        mean: What is subtracted from the image's channels, of values from 0 to 255; for weights from elsewhere. By
            default the image is normalised as for every model.
        std: What they are divided by then.
        weights: A local file to start from: a state dict of the whole model, or of an ESPNet-C.

    Raises:
        ConfigError: An option is out of its range.
        WeightsError: The weights cannot be read, or do not fit.
    """
    if p < 1:
        raise ConfigError(f"model.p: {p} is not a number of blocks, 1 or greater.")
    model = ESPNet(
        num_classes, blocks=(p, q), decoder=decoder, normalisation=input_normalisation(channel_order, mean, std)
    )
    # There is no ImageNet classifier of the encoder: a file without its names is judged by the names that it has.
    return initialise(model, weights=weights, from_imagenet=lambda model, state: state)
