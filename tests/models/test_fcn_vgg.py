"""The FCNs on VGG16: fc6 and fc7 are ImageNet's layers as convolutions, and upsampling is the paper's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from meta_models import on_meta
from torch import Tensor, nn
from torchvision.models import get_model

from segctl.plugin import model_traits
from segctl_models.fcn_vgg import fcn8s, fcn16s, fcn32s


def thin(shape: torch.Size) -> Tensor:
    """Random values in a tensor of `shape` that repeats them over its first axis: a file of it is small."""
    return (0.05 * torch.randn(1, *shape[1:])).expand(shape) if len(shape) > 1 else 0.05 * torch.randn(shape)


def classifier_file(name: str, path: Path) -> dict[str, Tensor]:
    """A file like torchvision's pretrained one, with its names and shapes."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in get_model(name).state_dict().items()}
    torch.manual_seed(0)
    state = {key: thin(shape) for key, shape in shapes.items()}
    torch.save(state, path)
    return state


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, dict[str, Tensor]]:
    path = tmp_path_factory.mktemp("weights") / "vgg16.pth"
    state = classifier_file("vgg16", path)
    return fcn32s(5, weights=str(path)).eval(), state


@torch.no_grad()
def test_fc6_and_fc7_compute_what_the_classifier_did(pretrained: tuple[nn.Module, dict[str, Tensor]]) -> None:
    model, state = pretrained
    pool5 = torch.rand(1, 512, 7, 7)
    fc6 = F.linear(pool5.flatten(1), state["classifier.0.weight"], state["classifier.0.bias"])
    fc7 = F.linear(F.relu(fc6), state["classifier.3.weight"], state["classifier.3.bias"])
    convolved = model.fc6(pool5)[:, :, 3:4, 3:4]  # where the 7x7 window covers the whole map
    assert torch.allclose(convolved.flatten(1), fc6, atol=1e-4)
    assert torch.allclose(model.fc7(F.relu(convolved)).flatten(1), fc7, atol=1e-3)


@torch.no_grad()
def test_the_features_are_torchvision_s(pretrained: tuple[nn.Module, dict[str, Tensor]]) -> None:
    model, state = pretrained
    reference = on_meta(get_model, "vgg16").features
    reference.load_state_dict(
        {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}, assign=True
    )
    image = torch.randn(1, 3, 64, 96)
    assert torch.equal(model.backbone(image)[-1], reference(image))


@pytest.mark.parametrize("size", [(96, 128), (75, 101)])
@torch.no_grad()
def test_upsampling_is_the_bilinear_deconvolution_of_the_paper(
    pretrained: tuple[nn.Module, dict[str, Tensor]], size: tuple[int, int]
) -> None:
    """The authors' filter of stride 32: 64 wide, a triangle around its centre at 31.5."""
    model, _ = pretrained
    scores: list[Tensor] = []
    handle = model.score_fr.register_forward_hook(lambda _module, _inputs, output: scores.append(output))
    out = model(torch.randn(1, 3, *size))["out"]
    handle.remove()
    (score,) = scores
    assert score.shape[-2:] == (-(-size[0] // 32), -(-size[1] // 32))
    triangle = 1 - (torch.arange(64.0) - 31.5).abs() / 32
    kernel = (triangle[:, None] * triangle).expand(5, 1, 64, 64)
    expected = F.conv_transpose2d(score, kernel, stride=32, padding=16, groups=5)
    # Within half a cell of the border the deconvolution fades to zero, the interpolation does not.
    inner = (..., slice(16, 48), slice(16, 80))
    assert torch.allclose(out[inner], expected[inner], rtol=1e-4, atol=1e-5 * float(score.abs().max()))


def test_a_trained_fcn32s_starts_fcn8s_without_changing_its_scores(tmp_path: Path) -> None:
    """Section 4.2: the new scores are zero at first."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in fcn32s(5).state_dict().items()}
    state = {key: thin(shape) for key, shape in shapes.items()}
    torch.save({"model": state}, tmp_path / "fcn32s.pt")
    model = fcn8s(5, weights=str(tmp_path / "fcn32s.pt"))
    assert torch.equal(model.score_fr.weight, state["score_fr.weight"])
    assert not model.score_pool4.weight.any()
    assert not model.score_pool3.weight.any()


def test_batch_normalised_vgg_takes_torchvision_s_file(tmp_path: Path) -> None:
    state = classifier_file("vgg16_bn", tmp_path / "vgg16_bn.pth")
    model = fcn16s(5, backbone="vgg16_bn", weights=str(tmp_path / "vgg16_bn.pth"))
    assert torch.equal(model.backbone.features[1].running_mean, state["features.1.running_mean"])
    assert torch.equal(model.fc7.bias, state["classifier.3.bias"])


def test_what_comes_from_imagenet_is_not_trained_as_head() -> None:
    with torch.device("meta"):
        names = [name for name, _ in fcn8s(5).named_parameters()]
    head = {name.split(".")[0] for name in names if not name.startswith(model_traits(fcn8s).backbone)}
    assert head == {"score_fr", "score_pool4", "score_pool3"}
