"""Weights find their places by names, order and shapes; expected places are known from how the names were changed.

The naming schemes are those of public projects: torchvision, the reference project
(awesome-semantic-segmentation-pytorch), segmentation_models_pytorch and mmsegmentation.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch

from segctl_jobs.weights_match import Shape, classes_in, like, match, surplus
from segctl_models.deeplabv3 import deeplabv3
from segctl_models.enet import enet

Shapes = dict[str, Shape]


def shapes(create: Callable[..., torch.nn.Module], num_classes: int = 21, **options: object) -> Shapes:
    with torch.device("meta"):
        state = create(num_classes, **options).state_dict()
    return {name: tuple(value.shape) for name, value in state.items() if not name.endswith("num_batches_tracked")}


def rewritten(rules: list[tuple[str, str]]) -> Callable[[str], str]:
    def rewrite(name: str) -> str:
        for pattern, text in rules:
            name = re.sub(pattern, text, name)
        return name

    return rewrite


def assert_found(model: Shapes, rename: Callable[[str], str], file: Shapes | None = None, **given: object) -> set[str]:
    """All of the model is found where `rename` put it; returns the ways in which."""
    file = {rename(name): shape for name, shape in model.items()} if file is None else file
    matches, ambiguous = match(model, file, **given)
    assert not ambiguous
    assert {name: found.source for name, found in matches.items()} == {name: rename(name) for name in model}
    assert surplus(matches, set(file) - {found.source for found in matches.values()}) == ()
    return {found.how for found in matches.values()}


REFERENCE = rewritten(
    [
        (r"^backbone\.", "pretrained."),
        (r"^aux_classifier\.", "auxlayer.block."),
        (r"^classifier\.0\.convs\.0\.", "head.aspp.b0."),
        (r"^classifier\.0\.convs\.([123])\.", r"head.aspp.b\1.block."),
        (r"^classifier\.0\.convs\.4\.", "head.aspp.b4.gap."),
        (r"^classifier\.0\.project\.", "head.aspp.project."),
        (r"^classifier\.1\.", "head.block.0."),
        (r"^classifier\.2\.", "head.block.1."),
        (r"^classifier\.4\.", "head.block.4."),
    ]
)


def test_equal_names_are_exact() -> None:
    assert assert_found(shapes(deeplabv3), lambda name: name) == {"exact"}


def test_the_reference_projects_names() -> None:
    model = shapes(deeplabv3)
    file = {REFERENCE(name): shape for name, shape in model.items()}
    file |= {"pretrained.fc.weight": (1000, 2048), "pretrained.fc.bias": (1000,)}  # its ImageNet classifier stays there
    assert assert_found(model, REFERENCE, file) == {"renamed", "by order"}


def test_other_names_for_everything_are_told_by_the_order() -> None:
    model = shapes(enet)
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in model))

    def rename(name: str) -> str:
        layer, _, ending = name.rpartition(".")
        return f"layers.{layers.index(layer)}.{ending}"

    assert assert_found(model, rename) == {"by order"}


def test_modules_that_another_author_registers_in_another_order() -> None:
    model = shapes(enet)
    parts = list(dict.fromkeys(name.split(".")[0] for name in model))
    order = ["fullconv", "stage5", "up5", "initial", "stage2", "down1", "stage1", "stage3", "down2", "up4", "stage4"]
    assert sorted(order) == sorted(parts)

    def rename(name: str) -> str:
        part, _, rest = name.partition(".")
        return f"block{parts.index(part)}.{rest.replace('branch', 'conv_path').replace('act', 'prelu')}"

    file = {rename(name): model[name] for part in order for name in model if name.split(".")[0] == part}
    assert_found(model, rename, file)


# mmsegmentation registers the classifier before the rest of a head, and the whole image's branch before the pyramid.
MMSEG_LAYERS = {
    "classifier.4": "decode_head.conv_seg",
    "classifier.0.convs.4.1": "decode_head.image_pool.1.conv",
    "classifier.0.convs.4.2": "decode_head.image_pool.1.bn",
    **{
        f"classifier.0.convs.{branch}.{number}": f"decode_head.aspp_modules.{branch}.{layer}"
        for branch in range(4)
        for number, layer in enumerate(("conv", "bn"))
    },
    "classifier.0.project.0": "decode_head.bottleneck.conv",
    "classifier.0.project.1": "decode_head.bottleneck.bn",
    "classifier.1": "decode_head.last.conv",
    "classifier.2": "decode_head.last.bn",
    "aux_classifier.4": "auxiliary_head.conv_seg",
    "aux_classifier.0": "auxiliary_head.convs.0.conv",
    "aux_classifier.1": "auxiliary_head.convs.0.bn",
}


def mmseg(name: str) -> str:
    layer, _, ending = name.rpartition(".")
    return f"{MMSEG_LAYERS.get(layer, layer)}.{ending}"


def mmseg_file(model: Shapes) -> Shapes:
    heads = sorted(MMSEG_LAYERS, key=lambda layer: (layer.startswith("aux"), list(MMSEG_LAYERS).index(layer)))
    place = {layer: number for number, layer in enumerate(heads)}
    names = sorted(model, key=lambda name: place.get(name.rpartition(".")[0], -1))
    return {mmseg(name): model[name] for name in names}


def test_layers_that_could_be_exchanged_are_left_alone() -> None:
    """The pyramid's 1x1 branch and the whole image's have one shape, and their order is not the file's."""
    model = shapes(deeplabv3)
    matches, ambiguous = match(model, mmseg_file(model))
    exchangeable = {name for name in model if name.startswith(("classifier.0.convs.0", "classifier.0.convs.4"))}
    assert ambiguous == exchangeable
    assert {name: found.source for name, found in matches.items()} == {
        name: mmseg(name) for name in model if name not in exchangeable
    }


def test_the_class_of_a_module_tells_the_whole_images_branch() -> None:
    model = shapes(deeplabv3)
    classes = {name: "ASPP.ImagePooling" for name in model if name.startswith("classifier.0.convs.4")}
    assert_found(model, mmseg, mmseg_file(model), classes=classes)


def test_two_equal_heads_in_the_file_and_one_in_the_model_are_ambiguous() -> None:
    head = {"0.weight": (8, 4, 3, 3), "1.weight": (8,), "1.bias": (8,)}
    model = {f"classifier.{name}": shape for name, shape in head.items()}
    file = {f"{part}.{name}": shape for part in ("branch1.conv", "branch2.conv") for name, shape in head.items()}
    matches, ambiguous = match(model, file)
    assert matches == {}
    assert ambiguous == set(model)


def test_heads_for_the_loss_are_matched_with_such_heads_only() -> None:
    head = {"0.weight": (8, 4, 3, 3), "0.bias": (8,), "2.weight": (3, 8, 1, 1)}
    file = {f"{part}.{name}": shape for part in ("auxlayer.block", "head.block") for name, shape in head.items()}
    model = {f"{part}.{name}": shape for part in ("classifier", "aux_classifier") for name, shape in head.items()}
    with_aux, _ = match(model, file)
    assert with_aux["classifier.0.weight"].source == "head.block.0.weight"
    assert with_aux["aux_classifier.0.weight"].source == "auxlayer.block.0.weight"
    without, _ = match({name: shape for name, shape in model.items() if not name.startswith("aux")}, file)
    assert {found.source for found in without.values()} == {f"head.block.{name}" for name in head}


def test_a_deeper_networks_file_has_layers_to_spare() -> None:
    """All of a ResNet-50 can be found in a ResNet-101, and would be wrong."""
    shallow, deep = shapes(deeplabv3), shapes(deeplabv3, backbone="resnet101")
    for file in (deep, {REFERENCE(name): shape for name, shape in deep.items()}):
        matches, _ = match(shallow, file)
        assert set(matches) == set(shallow)
        unused = set(file) - {found.source for found in matches.values()}
        assert set(surplus(matches, unused)) == unused
        assert len(unused) == len(deep) - len(shallow)


def test_a_linear_layer_stands_for_the_1x1_convolution() -> None:
    assert like((8, 4, 1, 1)) == like((8, 4)) == (8, 4)
    assert like((8, 1, 3, 3)) == (8, 1, 3, 3)
    matches, _ = match({"proj.weight": (8, 4, 1, 1), "proj.bias": (8,)}, {"linear.weight": (8, 4), "linear.bias": (8,)})
    assert {name: found.source for name, found in matches.items()} == {
        "proj.weight": "linear.weight",
        "proj.bias": "linear.bias",
    }


@pytest.mark.parametrize("count", [1, 2, 19, 150])
def test_shapes_say_the_number_of_classes(count: int) -> None:
    two, three = shapes(deeplabv3, 2), shapes(deeplabv3, 3)
    file = shapes(deeplabv3, count)
    assert classes_in(file, two, three) == count
    assert classes_in({mmseg(name): shape for name, shape in file.items()}, two, three) == count
    assert classes_in({name: shape for name, shape in file.items() if name.startswith("backbone")}, two, three) is None
