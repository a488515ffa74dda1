"""CGNet: its size, its block worked out on its own, and the layout of the authors' checkpoints."""

from __future__ import annotations

import pytest
import release_layout as release
import torch
import torch.nn.functional as F
from meta_models import count, on_meta
from torch import nn

from segctl.errors import ConfigError
from segctl_models.cgnet import CGBlock, cgnet


@pytest.mark.parametrize(("num_classes", "expected"), [(21, 496_818), (19, 496_306)])
def test_same_number_of_parameters_as_the_release(num_classes: int, expected: int) -> None:
    assert count(on_meta(cgnet, num_classes)) == expected


def released(classes: int) -> release.Shapes:
    """CGNet_M3N21, in the order in which its code makes the layers."""

    def context(channels: int, reduction: int) -> release.Shapes:
        inner = channels // reduction
        return [(inner, channels), (inner,), (channels, inner), (channels,)]

    def local_and_surrounding(channels: int) -> release.Shapes:
        return 2 * release.conv(channels, channels, 3, groups=channels)

    def down(inputs: int, outputs: int, reduction: int) -> release.Shapes:
        joint = [*release.norm_prelu(2 * outputs), *release.conv(2 * outputs, outputs, 1)]
        first = release.conv_norm_prelu(inputs, outputs, 3)
        return [*first, *local_and_surrounding(outputs), *joint, *context(outputs, reduction)]

    def block(channels: int, reduction: int) -> release.Shapes:
        first = release.conv_norm_prelu(channels, channels // 2, 1)
        joint = release.norm_prelu(channels)
        return [*first, *local_and_surrounding(channels // 2), *joint, *context(channels, reduction)]

    stage1 = [*release.conv_norm_prelu(3, 32, 3), *2 * release.conv_norm_prelu(32, 32, 3)]
    stage2 = [*release.norm_prelu(35), *down(35, 64, 8), *2 * block(64, 8)]
    stage3 = [*release.norm_prelu(131), *down(131, 128, 16), *20 * block(128, 16)]
    return [*stage1, *stage2, *stage3, *release.norm_prelu(256), *release.conv(256, classes, 1)]


@pytest.mark.parametrize("classes", [11, 19])
def test_checkpoints_of_the_release_differ_in_names_alone(classes: int) -> None:
    model = on_meta(cgnet, classes)

    assert release.of_model(model) == released(classes)
    assert {m.eps for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}
    dilations = {name: m.dilation[0] for name, m in model.named_modules() if name.endswith("surrounding")}
    assert {name.split(".")[0]: dilation for name, dilation in dilations.items()} == {
        **dict.fromkeys(("down2", "stage2"), 2),
        **dict.fromkeys(("down3", "stage3"), 4),
    }


def test_a_block_joins_what_is_local_with_what_surrounds_it() -> None:
    torch.manual_seed(0)
    block = CGBlock(4, dilation=2, reduction=2).eval()
    x = torch.randn(2, 4, 6, 7)

    with torch.no_grad():
        inner = F.prelu(
            F.conv2d(x, block.reduce[0].weight) / (1 + 1e-3) ** 0.5, torch.full((2,), 0.25)
        )  # fresh statistics: mean 0 and variance 1
        joint = torch.zeros(2, 4, 6, 7)
        padded = F.pad(inner, (2, 2, 2, 2))
        for channel in range(2):
            for row in range(3):
                for column in range(3):
                    near = padded[:, channel, row + 1 : row + 7, column + 1 : column + 8]
                    far = padded[:, channel, 2 * row : 2 * row + 6, 2 * column : 2 * column + 7]
                    joint[:, channel] += block.local.weight[channel, 0, row, column] * near
                    joint[:, channel + 2] += block.surrounding.weight[channel, 0, row, column] * far
        joint = F.prelu(joint / (1 + 1e-3) ** 0.5, torch.full((4,), 0.25))
        first, _, second, _ = block.weigh.layers
        means = joint.sum((2, 3)) / 42
        weights = torch.sigmoid((means @ first.weight.T + first.bias).clamp(min=0) @ second.weight.T + second.bias)

        torch.testing.assert_close(block(x), x + joint * weights[:, :, None, None])


def test_the_image_is_injected_at_a_half_and_a_quarter_of_its_size() -> None:
    model = cgnet(2).eval()
    seen = []
    for module in (model.injected1, model.injected2):
        module.register_forward_pre_hook(lambda module, given: seen.append(given[0][:, -3:]))
    image = torch.randn(1, 3, 33, 40)

    with torch.no_grad():
        model(image)

    def averaged(x: torch.Tensor) -> torch.Tensor:
        padded = F.pad(x, (1, 2, 1, 2))
        rows, columns = range(0, x.shape[2], 2), range(0, x.shape[3], 2)
        return torch.stack(
            [torch.stack([padded[..., r : r + 3, c : c + 3].sum((2, 3)) / 9 for c in columns], -1) for r in rows], -2
        )

    half = averaged(image)
    assert half.shape == (1, 3, 17, 20)
    torch.testing.assert_close(seen[0], half)
    torch.testing.assert_close(seen[1], averaged(half))


def test_m_and_n_are_options() -> None:
    with torch.device("meta"):
        small, large = (cgnet(2, stage2_blocks=m, stage3_blocks=n, dropout=0.1) for m, n in ((1, 1), (4, 5)))

    assert [len(small.stage2), len(small.stage3), len(large.stage2), len(large.stage3)] == [0, 0, 3, 4]
    with pytest.raises(ConfigError, match=r"model\.stage3_blocks: 0 is not"):
        cgnet(2, stage3_blocks=0)
    with pytest.raises(ConfigError, match=r"model\.dropout: 1 is not"):
        cgnet(2, dropout=1.0)
