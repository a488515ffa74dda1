"""ESPNet: its size, its block worked out on its own, the layout of the authors' checkpoints, training in two steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import release_layout as release
import torch
import torch.nn.functional as F
from meta_models import count, on_meta
from torch import nn

from segctl.errors import ConfigError, WeightsError
from segctl_models.espnet import ESP, espnet


def test_it_is_180_times_smaller_than_pspnet() -> None:
    """The paper's abstract, with the 65.7 million parameters that its introduction counts for PSPNet."""
    assert round(65.7e6 / count(on_meta(espnet, 20))) == 180


def encoder(classes: int, p: int, q: int) -> release.Shapes:
    level2 = [*release.norm_prelu(19), *pyramid(19, 64, 3), *p * pyramid(64, 64)]
    level3 = [*release.norm_prelu(131), *pyramid(131, 128, 3), *q * pyramid(128, 128)]
    last = [*release.norm_prelu(256), *release.conv(256, classes, 1)]
    return [*release.conv_norm_prelu(3, 16, 3), *level2, *level3, *last]


def pyramid(inputs: int, outputs: int, kernel: int = 1) -> release.Shapes:
    """A fifth of the channels for each dilation, and to the first what is left over."""
    inner = outputs // 5
    branches = [*release.conv(inner, outputs - 4 * inner, 3), *4 * release.conv(inner, inner, 3)]
    return [*release.conv(inputs, inner, kernel), *branches, *release.norm_prelu(outputs)]


def decoder(classes: int) -> release.Shapes:
    """In the order in which its code makes the layers, which is not that in which they run."""
    enlarge = [(classes, classes, 2, 2)]
    first = [*release.conv(131, classes, 1), *release.norm(classes), *release.conv_norm_prelu(19 + classes, classes, 3)]
    level3 = [*enlarge, *release.norm_prelu(2 * classes), *pyramid(2 * classes, classes)]
    return [*first, *level3, *enlarge, *release.norm_prelu(classes), *enlarge]


@pytest.mark.parametrize(("p", "q"), [(2, 3), (2, 8)])
def test_checkpoints_of_the_release_differ_in_names_alone(p: int, q: int) -> None:
    with torch.device("meta"):
        whole, small = espnet(20, p=p, q=q), espnet(20, p=p, q=q, decoder=False)

    assert release.of_model(small) == encoder(20, p, q)
    assert release.of_model(whole) == [*encoder(20, p, q), *decoder(20)]
    assert {m.eps for m in whole.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


def test_a_block_sums_its_dilated_branches_up() -> None:
    torch.manual_seed(0)
    block = ESP(7, 11, residual=False).eval()
    x = torch.randn(1, 7, 40, 36)

    with torch.no_grad():
        reduced = F.conv2d(x, block.reduce.weight)
        assert reduced.shape[1] == 2
        weights = [branch.weight for branch in block.branches]
        assert [len(weight) for weight in weights] == [3, 2, 2, 2, 2]
        branches = [
            F.conv2d(reduced, weight, padding=d, dilation=d)
            for weight, d in zip(weights, (1, 2, 4, 8, 16), strict=True)
        ]
        merged = [branches[0], *(sum(branches[1 : last + 1]) for last in range(1, 5))]
        expected = F.prelu(torch.cat(merged, 1) / (1 + 1e-3) ** 0.5, torch.full((11,), 0.25))

        torch.testing.assert_close(block(x), expected)


def test_a_block_sees_33_pixels_each_way() -> None:
    """Section 3.1: (n - 1) 2^(K - 1) + 1 with n = 3 and K = 5."""
    x = torch.zeros(1, 10, 65, 65, requires_grad=True)

    ESP(10, 10).eval()(x)[0, :, 32, 32].sum().backward()

    assert x.grad is not None
    seen = x.grad[0].abs().sum(0).nonzero()
    assert seen.amin(0).tolist() == [16, 16]
    assert seen.amax(0).tolist() == [48, 48]


def test_it_goes_on_from_the_weights_of_an_espnet_c(tmp_path: Path) -> None:
    """The paper trains the encoder with a classifier first."""
    first = espnet(6, decoder=False)
    torch.save({"model": first.state_dict()}, tmp_path / "c.pth")

    model = espnet(6, weights=str(tmp_path / "c.pth"))

    for name, value in first.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], value)
    torch.save(nn.Conv2d(3, 3, 1).state_dict(), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="do not fit the model"):
        espnet(6, weights=str(tmp_path / "other.pth"))


@pytest.mark.parametrize("classes", [2, 3, 4, 5])
def test_few_classes(classes: int) -> None:
    with torch.no_grad():
        assert espnet(classes).eval()(torch.zeros(1, 3, 33, 35))["out"].shape == (1, classes, 33, 35)


def test_depths_are_options() -> None:
    model = on_meta(espnet, 2, p=1, q=5)

    assert [len(model.backbone.level2), len(model.backbone.level3)] == [1, 5]
    with pytest.raises(ConfigError, match=r"model\.p: 0 is not"):
        espnet(2, p=0)
