"""MODELS.md says what the models are, and they are as large as their papers' or their authors' releases."""

from __future__ import annotations

import json
import os
import runpy
from pathlib import Path
from typing import Any

import models_table
import pytest

from segctl import registry

# What models.json has of a release, and the model of segctl that it is: name and options.
R50, R101, R152 = ({"backbone": f"resnet{depth}"} for depth in (50, 101, 152))
RELEASES: dict[str, tuple[str, dict[str, Any]]] = {
    "fcn32s/vgg16": ("fcn32s", {}),
    "fcn16s/vgg16": ("fcn16s", {}),
    "fcn8s/vgg16": ("fcn8s", {}),
    "deeplabv3_plus/xception": ("deeplabv3_plus", {}),
    "bisenet/resnet18": ("bisenet", {}),
    "icnet/resnet50": ("icnet", {}),
    "enet": ("enet", {}),
    "cgnet": ("cgnet", {}),
    "espnet": ("espnetv2", {}),  # the reference project's name for ESPNetv2
    "lednet": ("lednet", {}),
    "dfanet": ("dfanet", {}),
    **{f"denseaspp/densenet{n}": ("denseaspp", {"backbone": f"densenet{n}"}) for n in (121, 161, 169, 201)},
    **{
        f"{theirs}/{resnet['backbone']}": (ours, {**options, **resnet})
        for theirs, ours, options in (
            ("fcn", "fcn", {}),
            ("psp", "pspnet", {}),
            ("deeplabv3", "deeplabv3", {}),
            ("danet", "danet", {}),
            ("encnet", "encnet", {}),
            ("ocnet_base", "ocnet", {"context": "base"}),
            ("ocnet_pyramid", "ocnet", {"context": "pyramid"}),
            ("ocnet_asp", "ocnet", {"context": "asp"}),
            ("psanet", "psanet", {}),
        )
        for resnet in (R50, R101, R152)
    },
}
# The same of those that the reference project has not; their one number is without auxiliary heads.
FURTHER: dict[str, tuple[str, dict[str, Any], str]] = {
    "hrnet_w18": ("hrnet", {}, "params"),
    "hrnet_w48": ("hrnet", {"backbone": "hrnet_w48"}, "params"),
    "ccnet/resnet50": ("ccnet", R50, "params_noaux"),
    "ccnet/resnet101": ("ccnet", R101, "params_noaux"),
    "deeplabv3plus_xception65_tf_os8": ("deeplabv3_plus", {"output_stride": 8}, "params"),
    **{f"espnetv2/s{scale}": ("espnetv2", {"scale": scale}, "params") for scale in (0.5, 1.5, 2.0)},
}


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    """Parameters that were counted of the authors' or of trusted releases."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "reference"
    file = Path(os.environ.get("SEGCTL_TEST_REFERENCE", beside)) / "models.json"
    if not file.is_file():
        pytest.skip(f"no reference counts at {file}; set SEGCTL_TEST_REFERENCE")
    return dict(json.loads(file.read_text("utf-8")))


def test_every_release_that_was_counted_is_compared(reference: dict[str, Any]) -> None:
    counted = {key for key, facts in reference.items() if facts.get("params_reference") is not None}

    assert counted == set(RELEASES)


@pytest.mark.slow
@pytest.mark.parametrize("key", RELEASES)
def test_parameters_are_the_release_s(key: str, reference: dict[str, Any]) -> None:
    name, options = RELEASES[key]
    facts = reference[key]

    found = models_table.count(registry.find("models", name).load(), options)

    # The releases' figures have the auxiliary classifiers of DANet, which evaluation does not use.
    assert found.in_evaluation == pytest.approx(facts["params_reference"], rel=0.01)
    if facts["params_reference_with_aux"] is not None:
        assert found.parameters == pytest.approx(facts["params_reference_with_aux"], rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("key", FURTHER)
def test_parameters_are_those_of_the_newer_releases(key: str, reference: dict[str, Any]) -> None:
    name, options, of_it = FURTHER[key]

    found = models_table.count(registry.find("models", name).load(), options)

    assert found.in_evaluation == pytest.approx(reference["_reference_only"][f"{key}/21"][of_it], rel=0.01)


@pytest.mark.slow
@pytest.mark.timeout(900)  # it builds and traces every model; a busy machine takes its time
def test_the_generated_part_is_up_to_date() -> None:
    text = models_table.FILE.read_text("utf-8")

    assert models_table.with_generated(text, models_table.generated()) == text, "python tests/models/models_table.py"


def test_every_model_is_in_the_table_with_its_paper() -> None:
    text = models_table.FILE.read_text("utf-8")

    for model in models_table.built_in():
        assert f"| `{model.name}` | " in text
        assert f"| `{model.name}` | {models_table.paper(model)} |" in text


def test_every_model_has_a_row_of_the_overfitting_test_in_the_steps_of_its_script() -> None:
    script = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "overfitting.py"))
    _, _, section = models_table.FILE.read_text("utf-8").partition("## One picture by heart")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line[:3] == "| `"]
    rows = {name.strip("`"): rest for name, *rest in cells if len(rest) == 5}

    assert set(rows) == {model.name for model in models_table.built_in()}
    for name, (_, miou, reference, steps, _) in rows.items():
        assert reference == (f"{known:.1f}" if (known := script["REFERENCE"][name]) is not None else ""), name
        assert int(steps) == script["STEPS"].get(name, 200), name
        assert float(miou) >= float(reference or 0), name


@pytest.mark.parametrize(
    ("name", "options", "strides"),
    [
        ("unet", {}, (1, 16)),
        ("enet", {}, (2, 8)),  # ends with a full convolution of stride 2
        ("bisenet", {}, (8, 32)),
        ("lednet", {}, (8, 64)),  # what its last convolution reads is the global average
        ("fcn8s", {}, (8, 32)),
        ("deeplabv3", {"backbone": "resnet18", "output_stride": 16}, (16, 16)),
        ("deeplabv3_plus", {"backbone": "resnet18"}, (4, 16)),
    ],
)
def test_output_stride_is_that_of_the_map_which_is_classified(
    name: str, options: dict[str, Any], strides: tuple[int, int]
) -> None:
    found = models_table.count(registry.find("models", name).load(), options)

    assert (found.output_stride, found.deepest_stride) == strides


@pytest.mark.parametrize(
    ("name", "paper"),
    [
        (
            "unet",
            "Ronneberger, Fischer and Brox, [U-Net: Convolutional Networks for Biomedical Image Segmentation]"
            "(https://arxiv.org/abs/1505.04597), 2015",
        ),
        (
            "fcn",
            "Long, Shelhamer and Darrell, [Fully Convolutional Networks for Semantic Segmentation]"
            "(https://arxiv.org/abs/1411.4038), 2015",
        ),
    ],
)
def test_papers_are_read_off_the_docstrings(name: str, paper: str) -> None:
    (model,) = [model for model in models_table.built_in() if model.name == name]

    assert models_table.paper(model) == paper


def test_what_is_written_by_hand_around_the_generated_part_stays() -> None:
    text = f"before\n{models_table.BEGIN}\nold\n{models_table.END}\nafter\n"

    assert models_table.with_generated(text, "new") == "before\nnew\nafter\n"
    with pytest.raises(ValueError, match="both marks"):
        models_table.with_generated("before", "new")
