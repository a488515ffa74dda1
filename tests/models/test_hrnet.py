"""HRNet, alone and with object-contextual representations, against the papers and the authors' release."""

from __future__ import annotations

import math

import pytest
import torch
from meta_models import count, on_meta
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from segctl_models.backbones.hrnet import HighResolutionModule
from segctl_models.hrnet import hrnet
from segctl_models.hrnet_ocr import OCR, gather, hrnet_ocr

BACKBONES = {"hrnet_w18": 9_562_260, "hrnet_w32": 29_305_536, "hrnet_w48": 65_325_120}  # of the release, as in timm


def random_statistics(module: nn.Module) -> nn.Module:
    """Running statistics as after training, so that a normalisation left out or doubled is seen."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean, std=0.1)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.1)
    return module.eval()


@pytest.mark.parametrize(
    ("backbone", "num_classes", "expected"),
    [
        ("hrnet_w18", 21, 9_641_661),
        ("hrnet_w18", 19, 9_641_119),
        ("hrnet_w32", 21, 29_305_536 + 481 * 480 + 2 * 480 + 481 * 21),
        ("hrnet_w48", 21, 65_860_821),
        ("hrnet_w48", 19, 65_859_379),
    ],
)
def test_same_number_of_parameters_as_the_release(backbone: str, num_classes: int, expected: int) -> None:
    model = on_meta(hrnet, num_classes, backbone=backbone)
    assert count(model) == expected
    assert count(model.backbone) == BACKBONES[backbone]


@pytest.mark.parametrize(("backbone", "streams"), [("hrnet_w18", 270), ("hrnet_w48", 720)])
def test_ocr_s_parameters_are_the_sum_of_its_layers(backbone: str, streams: int) -> None:
    model = on_meta(hrnet_ocr, 19, backbone=backbone)
    regions = (streams + 1) * streams + 2 * streams + (streams + 1) * 19
    pixels = (9 * streams + 1) * 512 + 2 * 512
    query = key = 512 * 256 + 256 * 256 + 4 * 256
    value, context = 512 * 256 + 2 * 256, 256 * 512 + 2 * 512
    augment = 1024 * 512 + 2 * 512
    head = regions + pixels + query + key + value + context + augment + 513 * 19
    assert count(model) == BACKBONES[backbone] + head


@pytest.mark.parametrize(
    ("backbone", "expected"), [("hrnet_w18", 73.74), pytest.param("hrnet_w48", 373.85, marks=pytest.mark.slow)]
)
def test_same_operations_as_the_release(backbone: str, expected: float) -> None:
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        hrnet(21, backbone=backbone).eval()(torch.empty(1, 3, 512, 1024))
    assert counter.get_total_flops() / 1e9 == pytest.approx(expected, rel=1e-3)


@pytest.fixture(scope="module")
def ocr_model() -> nn.Module:
    with torch.device("meta"):
        return hrnet_ocr(5)


def test_the_streams_keep_their_resolutions(ocr_model: nn.Module) -> None:
    seen: list[tuple[int, ...]] = []
    handle = ocr_model.backbone.register_forward_hook(lambda _, __, maps: seen.extend(tuple(x.shape) for x in maps))
    outputs = ocr_model.train()(torch.empty(2, 3, 65, 97, device="meta"))
    handle.remove()
    assert seen == [(2, 64, 33, 49), (2, 18, 17, 25), (2, 36, 9, 13), (2, 72, 5, 7), (2, 144, 3, 4)]
    # The soft regions are the auxiliary output, of the size of the first stream.
    shapes = {name: tuple(x.shape) for name, x in outputs.items()}
    assert shapes == {"out": (2, 5, 65, 97), "aux": (2, 5, 17, 25)}
    assert list(ocr_model.eval()(torch.empty(1, 3, 33, 65, device="meta"))) == ["out"]


def test_a_classifier_s_state_dict_fits_without_its_head(ocr_model: nn.Module) -> None:
    backbone = ocr_model.backbone
    head = ["incre_modules.0.0.conv1.weight", "downsamp_modules.0.0.weight", "final_layer.0.weight", "classifier.bias"]
    state = backbone.state_dict() | {key: torch.zeros(1) for key in head}
    assert backbone.from_imagenet(state).keys() == backbone.state_dict().keys()
    # Some of the release's names, one of each kind.
    assert {
        "layer1.0.downsample.1.weight",
        "transition1.0.0.weight",
        "transition1.1.0.0.weight",
        "transition3.3.0.1.running_mean",
        "stage2.0.branches.1.3.conv2.weight",
        "stage4.2.fuse_layers.0.3.0.weight",
        "stage4.2.fuse_layers.3.0.2.1.weight",
    } <= backbone.state_dict().keys()


def test_each_stream_takes_in_all_others() -> None:
    """Figure 4, put together by hand from the layers of three streams."""
    torch.manual_seed(0)
    module = random_statistics(HighResolutionModule([2, 3, 4]))
    streams = [torch.randn(1, 2, 9, 13), torch.randn(1, 3, 5, 7), torch.randn(1, 4, 3, 4)]
    given = [x.clone() for x in streams]
    with torch.no_grad():
        fused = module(streams)
        a, b, c = (branch(x) for branch, x in zip(module.branches, given, strict=True))
        layers = {key: layer for key, layer in module.fuse_layers.named_modules() if isinstance(layer, nn.Conv2d)}
        norms = {key: layer for key, layer in module.fuse_layers.named_modules() if isinstance(layer, nn.BatchNorm2d)}

        def up(x: Tensor, name: str, to: Tensor) -> Tensor:
            x = norms[f"{name}.1"](layers[f"{name}.0"](x))
            return F.interpolate(x, size=to.shape[-2:], mode="bilinear", align_corners=False)

        def down(x: Tensor, name: str) -> Tensor:
            return norms[f"{name}.1"](layers[f"{name}.0"](x))

        expected = [
            a + up(b, "0.1", a) + up(c, "0.2", a),
            down(a, "1.0.0") + b + up(c, "1.2", b),
            down(down(a, "2.0.0").relu(), "2.0.1") + down(b, "2.1.0") + c,
        ]
    assert all(torch.equal(x, y) for x, y in zip(streams, given, strict=True))
    for actual, wanted in zip(fused, expected, strict=True):
        assert torch.allclose(actual, wanted.relu(), atol=1e-5)


def test_an_object_is_the_mean_of_its_region() -> None:
    pixels = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    regions = torch.tensor([[[[0.0, 0.0], [0.0, 0.0]], [[0.0, math.log(3.0)], [-1e9, -1e9]]]])
    # Everywhere alike: (1 + 2 + 3 + 6) / 4. Thrice as much at the second pixel as at the first: (1 + 3 * 2) / 4.
    assert torch.allclose(gather(pixels, regions), torch.tensor([[[[3.0], [1.75]]]]))


def test_pixels_attend_to_objects_as_the_paper_says() -> None:
    torch.manual_seed(0)
    ocr = random_statistics(OCR(6, 4))
    pixels, regions = torch.randn(2, 6, 3, 5), torch.randn(2, 3, 3, 5)
    with torch.no_grad():
        query, objects = ocr.query(pixels), gather(pixels, regions)
        keys, values = ocr.key(objects), ocr.value(objects)
        context = torch.zeros(2, 4, 3, 5)
        for n in range(2):
            for y in range(3):
                for x in range(5):
                    relations = [query[n, :, y, x] @ keys[n, :, k, 0] / math.sqrt(4) for k in range(3)]
                    weights = torch.stack(relations).softmax(0)
                    context[n, :, y, x] = sum(weights[k] * values[n, :, k, 0] for k in range(3))
        expected = ocr.augment(torch.cat([ocr.context(context), pixels], dim=1))
        assert torch.allclose(ocr(pixels, regions), expected, atol=1e-5)
