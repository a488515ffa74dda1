"""ESPNetv2: Mehta, Rastegari, Shapiro and Hajishirzi, "ESPNetv2: A Light-weight, Power Efficient, and General Purpose
Convolutional Neural Network", 2019, https://arxiv.org/abs/1811.11431. The EESP unit is section 3.2's, strided as in
Figure 3, the network table 1's up to level 4, the segmentation network section 4.3's.

Where the paper leaves a choice, the authors' segmentation code (https://github.com/sacmehta/ESPNetv2) is followed,
layer by layer and in its order: its checkpoints differ in names, and in three activations that their code makes but
never applies (of the strided units, 112 to 480 weights in all), which are left out here because nothing would train
them. Such a checkpoint can be given as `weights`. The classifier for ImageNet and the level before it are not part of
the network. Enlarging aligns corners, as in the release. Added is what makes any size work: an odd height or width is
rounded up when halved, and what is enlarged takes the size of its counterpart.

The release's input is not segctl's: BGR, from which mean and standard deviation of Cityscapes are taken in values of 0
to 255, and which is then divided by 255 once more. For its checkpoints (20 classes, the last one is void) that is

    --model.channel_order bgr --model.mean "[72.3923111, 82.90893555, 73.15840149]"
    --model.std "[11556.40148, 11768.98828, 11453.28244]"
"""

from __future__ import annotations

from functools import partial
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segctl import plugin
from segctl.errors import ConfigError

from .backbones.weights import StateDict, initialise
from .layers.conv import ConvNormAct, depthwise
from .layers.input_normalisation import ChannelOrder, Channels, input_normalisation
from .layers.pooling import halved
from .layers.prelu import conv_norm_prelu, norm_prelu

__all__ = ["ESPNetV2", "espnetv2"]

SCALES = (0.5, 1.0, 1.25, 1.5, 2.0)  # what the authors trained; others may not split into the branches
BRANCHES = 4
EPS = 1e-5  # other than ESPNet's

_norm_prelu = partial(norm_prelu, eps=EPS)
_conv_norm_prelu = partial(conv_norm_prelu, eps=EPS)


class ESPNetV2(nn.Module):
    """ESPNetv2 for segmentation: levels 1 to 4, and a decoder that brings the deeper to the size of the shallower.

    Args:
        num_classes: Number of classes C.
        scale: Of the number of channels, the paper's s.
        aux: Whether the logits of level 3 are given to the loss as well.
        normalisation: Applied to the image first.

    `forward` maps images ``(N, 3, H, W)`` to ``{"out": (N, C, H, W)}``, in training also ``"aux"``, ``(N, C, H/8,
    W/8)`` rounded up.
    """

    def __init__(self, num_classes: int, scale: float, *, aux: bool, normalisation: nn.Module) -> None:
        super().__init__()
        self.normalisation = normalisation
        self.backbone = Backbone(scale)
        one, two, three, four = self.backbone.channels
        dropout = 0.1 if scale <= 0.5 else 0.2
        self.project4 = _conv_norm_prelu(four, three, 1)
        self.context = nn.Sequential(EESP(2 * three, three, largest=7), PyramidPooling(three))
        self.classify3 = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(three, num_classes, 1, bias=False))
        self.norm_act3 = _norm_prelu(num_classes)
        self.project2 = _conv_norm_prelu(two + num_classes, num_classes, 1)
        self.classify1 = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(one + num_classes, num_classes, 1, bias=False))
        self.aux = aux

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        one, two, three, four = self.backbone(self.normalisation(image))
        x = self.context(torch.cat([three, _enlarged(self.project4(four), three.shape[-2:])], dim=1))
        logits3 = self.classify3(x)
        x = _enlarged(self.norm_act3(logits3), two.shape[-2:])
        x = _enlarged(self.project2(torch.cat([two, x], dim=1)), one.shape[-2:])
        x = self.classify1(torch.cat([one, x], dim=1))
        outputs = {"out": _enlarged(x, image.shape[-2:])}
        return {**outputs, "aux": logits3} if self.training and self.aux else outputs


class Backbone(nn.Module):
    """Levels 1 to 4 of table 1, of strides 2, 4, 8 and 16.

    `forward` gives the last feature map of each, ``channels`` wide.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        base = -(-int(32 * scale) // BRANCHES) * BRANCHES  # rounded up to what can be split
        self.channels = (min(base, 32), 2 * base, 4 * base, 8 * base)
        self.strides = (2, 4, 8, 16)
        one, two, three, four = self.channels
        self.level1 = _conv_norm_prelu(3, one, 3, stride=2)
        self.level2 = Downsampler(one, two, largest=13)
        self.down3 = Downsampler(two, three, largest=11)
        self.level3 = nn.Sequential(*(EESP(three, three, largest=9) for _ in range(3)))
        self.down4 = Downsampler(three, four, largest=9)
        self.level4 = nn.Sequential(*(EESP(four, four, largest=7) for _ in range(7)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        quarter = halved(halved(image))
        eighth = halved(quarter)
        one = self.level1(image)
        two = self.level2(one, quarter)
        three = self.level3(self.down3(two, eighth))
        four = self.level4(self.down4(three, halved(eighth)))
        return one, two, three, four


class EESP(nn.Module):
    """The extremely efficient spatial pyramid: grouped 1x1 projections around depthwise dilated convolutions.

    Each branch is added to the one before it ("hierarchical feature fusion"). The input is added where it is as wide as
    the output.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        largest: Side of the largest region that a branch may see: branch i sees 3 + 2i, or 3 where that is more.
        down: Take every second pixel, and leave the activation to `Downsampler`.
    """

    def __init__(self, in_channels: int, out_channels: int, *, largest: int, down: bool = False) -> None:
        super().__init__()
        inner = out_channels // BRANCHES
        seen = sorted(side if side <= largest else 3 for side in (3, 5, 7, 9))
        self.reduce = _conv_norm_prelu(in_channels, inner, 1, groups=BRANCHES)
        self.branches = nn.ModuleList(depthwise(inner, stride=2 if down else 1, dilation=side // 2) for side in seen)
        self.expand = ConvNormAct(out_channels, out_channels, 1, groups=BRANCHES, act=None)
        self.norm_act = _norm_prelu(out_channels)
        self.act = None if down else nn.PReLU(out_channels)
        self.residual = not down and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        merged = torch.cat(list(accumulate(branch(reduced) for branch in self.branches)), dim=1)
        out = self.expand(self.norm_act(merged))
        out = x + out if self.residual else out
        return out if self.act is None else self.act(out)


class Downsampler(nn.Module):
    """The strided EESP unit of Figure 3: averages beside it, and a shortcut from the image.

    `forward` maps ``(N, in, H, W)`` and the image at half of that size to ``(N, out, H/2, W/2)``, rounded up.
    """

    def __init__(self, in_channels: int, out_channels: int, *, largest: int) -> None:
        super().__init__()
        self.unit = EESP(in_channels, out_channels - in_channels, largest=largest, down=True)
        self.shortcut = nn.Sequential(_conv_norm_prelu(3, 3, 3), ConvNormAct(3, out_channels, 1, act=None))
        self.act = nn.PReLU(out_channels)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        return self.act(torch.cat([halved(x), self.unit(x)], dim=1) + self.shortcut(image))


class PyramidPooling(nn.Module):
    """Depthwise convolutions of the feature map at a half, a quarter, an eighth and a sixteenth of its size, enlarged
    with aligned corners and joined.

    Each level is kept with one row and one column of zeros behind it, which is what a convolution sees there anyway. A
    level that shrinks to a single row is thus never a tensor of one row: `torch.export` would take that for a case of
    its own, and the exported network would refuse images of other sizes.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(depthwise(channels) for _ in range(4))
        self.project = _conv_norm_prelu(5 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        levels, smaller = [x], F.pad(x, (0, 1, 0, 1))
        for stage in self.stages:
            height, width = (height + 1) // 2, (width + 1) // 2
            smaller = halved(F.pad(smaller, (0, 1, 0, 1))) * _inside(smaller, height, width)
            levels.append(_sampled(stage(smaller), x))
        return self.project(torch.cat(levels, dim=1))


def _inside(x: Tensor, height: int, width: int) -> Tensor:
    """1 in `height` rows and `width` columns, 0 in one more of each."""
    rows, columns = (torch.arange(side + 1, device=x.device) < side for side in (height, width))
    return (rows[:, None] & columns).to(x.dtype)


def _sampled(x: Tensor, like: Tensor) -> Tensor:
    """`x` without its last row and column, enlarged to the size of `like` with aligned corners."""
    exact = torch.promote_types(x.dtype, torch.float32)  # bfloat16 cannot tell neighbouring pixels
    along = [
        # The pixels 0 to side - 2 of all that lie from -1 to 1.
        torch.arange(count, device=x.device, dtype=exact) * (2 * (side - 2) / ((side - 1) * (count - 1))) - 1
        for side, count in zip(x.shape[-2:], like.shape[-2:], strict=True)
    ]
    rows, columns = torch.meshgrid(*along, indexing="ij")
    grid = torch.stack([columns, rows], dim=-1).expand(x.shape[0], -1, -1, -1)
    return F.grid_sample(x.to(exact), grid, align_corners=True).to(x.dtype)


def _enlarged(x: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


def _from_release(model: nn.Module, state: StateDict) -> StateDict:
    """The authors' checkpoint under the names of `model`: the same entries in the same order, but for those three."""
    own = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    theirs = {
        name: value
        for name, value in state.items()
        if not name.endswith(("num_batches_tracked", "eesp.module_act.weight"))
    }
    if [value.shape for value in own.values()] != [value.shape for value in theirs.values()]:
        return state  # something else, whose names say best what does not fit
    return dict(zip(own, theirs.values(), strict=True))


@plugin.model(loss_options={"aux_weight": 1.0}, own_input=("mean", "std"))  # the release adds both losses
def espnetv2(
    num_classes: int,
    *,
    scale: float = 1.0,
    aux: bool = True,
    channel_order: ChannelOrder = "rgb",
    mean: Channels | None = None,
    std: Channels | None = None,
    weights: str | None = None,
) -> nn.Module:
    """ESPNetv2: very small (0.1 to 1.25 million parameters) and fast, trained from scratch.

    Args:
        num_classes: Number of classes.
        scale: Of the number of channels, the paper's s: 0.5, 1, 1.25, 1.5 or 2.
        aux: Train the logits of level 3, at an eighth of the image's size, as well.
        channel_order: Of the image that the model sees; for weights from elsewhere.
        mean: What is subtracted from the image's channels, of values from 0 to 255; for weights from elsewhere. By
            default the image is normalised as for every model.
        std: What they are divided by then.
        weights: A local file to start from: a state dict of the whole model, or one of the authors' checkpoints.

    Raises:
        ConfigError: An option is out of its range.
        WeightsError: The weights cannot be read, or do not fit.
    """
    if scale not in SCALES:
        raise ConfigError(f"model.scale: {scale:g} is not one of {', '.join(f'{each:g}' for each in SCALES)}.")
    model = ESPNetV2(num_classes, scale, aux=aux, normalisation=input_normalisation(channel_order, mean, std))
    return initialise(model, weights=weights, from_imagenet=_from_release)
