"""Several values of a setting: where each ends, which points they span, and what cannot be tried."""

from __future__ import annotations

from typing import Any

import pytest

from segctl.config.grid import label, points, points_of, spans, split
from segctl.config.yaml_core import parse
from segctl.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.01,0.005", ["0.01", "0.005"]),
        ("0.01", ["0.01"]),
        (" a , b ", ["a", "b"]),
        ("", [""]),
        ("a,,b", ["a", "", "b"]),
        ("[240, 320]", ["[240, 320]"]),
        ("[240, 320],[480, 640]", ["[240, 320]", "[480, 640]"]),
        ("[[1, 2], [3, 4]],null", ["[[1, 2], [3, 4]]", "null"]),
        ("{name: unet, backbone: resnet50},{name: fcn}", ["{name: unet, backbone: resnet50}", "{name: fcn}"]),
        ('"a,b",c', ['"a,b"', "c"]),
        ("'it''s, here',c", ["'it''s, here'", "c"]),
        (r'"a\",b",c', [r'"a\",b"', "c"]),
        ("it's,that's", ["it's", "that's"]),  # a quotation mark within a word is a letter
        ('["a]", b],c', ['["a]", b]', "c"]),
        ('{x: "a}, b"},c', ['{x: "a}, b"}', "c"]),
        ("n[1-3,5],n7", ["n[1-3,5]", "n7"]),
        ("a],b", ["a]", "b"]),
        ("[1, 2", ["[1, 2"]),  # a bracket that is left open takes all; the configuration refuses it
    ],
)
def test_a_value_ends_at_a_comma_outside_of_brackets_and_quotation_marks(text: str, values: list[str]) -> None:
    assert split(text) == values


def test_an_assignment_with_one_value_spans_nothing() -> None:
    assert not spans(["train.epochs=5", "augment.crop=[240, 320]", 'name="a,b"', "no assignment, at all"])
    assert spans(["train.epochs=5", "seed=1,2"])


def test_the_first_key_changes_slowest() -> None:
    found = points(["optimizer.lr=0.01,1e-3", "train.epochs=5", "model.backbone=resnet50,resnet101"])
    assert [dict(point.values) for point in found] == [
        {"optimizer.lr": 0.01, "model.backbone": "resnet50"},
        {"optimizer.lr": 0.01, "model.backbone": "resnet101"},
        {"optimizer.lr": 0.001, "model.backbone": "resnet50"},
        {"optimizer.lr": 0.001, "model.backbone": "resnet101"},
    ]
    assert found[2].sets == ("train.epochs=5", "optimizer.lr=1e-3", "model.backbone=resnet50")


def test_lists_and_mappings_are_values_as_a_whole() -> None:
    crops = points(["augment.crop=[240, 320],[480, 640],null"])
    assert [point.values["augment.crop"] for point in crops] == [[240, 320], [480, 640], None]
    models = points(["model={name: unet, backbone: resnet50},{name: fcn}"])
    assert models[0].sets == ("model={name: unet, backbone: resnet50}",)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["augment.crop=240,320"], "augment.crop takes a list, so it is not clear where a value ends. .*\\[240,320\\]"),
        (["augment.scale=[0.5, 2],1"], "augment.scale takes a list"),
        (["optimizer.lr=0.1,"], "a comma with no value beside it"),
        (["seed=1,2,1"], "seed has the value 1 twice"),
        (["seed=1,2", "seed=3"], "seed is set more than once"),
        (["launch.slurm.partition=a,b"], "all submitted in the same way.*'launch.slurm.partition=\"a,b\"'"),
        (["name=a,b"], "are named after what they try"),
        (
            ["seed=" + ",".join(map(str, range(101))), "train.steps=" + ",".join(map(str, range(100)))],
            "10100 trainings",
        ),
    ],
)
def test_what_cannot_be_tried_is_refused(sets: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        points(sets)


GRID = """
optimizer.lr: [0.01, 1e-3]
augment.crop: [[240, 320], null]
"""
LIST = """
- {optimizer.lr: 0.01, model.name: unet}
- {optimizer.lr: 0.02, model.name: "null"}
"""


def test_a_file_may_span_a_grid() -> None:
    found = points(["seed=1,2"], points_of(parse(GRID, "FILE"), "FILE"))
    assert len(found) == 8
    assert dict(found[0].values) == {"seed": 1, "optimizer.lr": 0.01, "augment.crop": [240, 320]}
    assert found[7].sets == ("seed=2", "optimizer.lr=0.001", "augment.crop=null")


def test_a_file_may_list_points() -> None:
    found = points(["train.steps=5"], points_of(parse(LIST, "FILE"), "FILE"))
    assert [dict(point.values) for point in found] == [
        {"optimizer.lr": 0.01, "model.name": "unet"},
        {"optimizer.lr": 0.02, "model.name": "null"},
    ]
    assert found[1].sets == ("train.steps=5", "optimizer.lr=0.02", 'model.name="null"'), "a string stays a string"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "FILE is not a sweep: it holds nothing"),
        ("5", "FILE is not a sweep: it holds 5"),
        ("optimizer.lr: 0.01", "FILE: optimizer.lr: 0.01 is not a list of values to try"),
        ("optimizer: {lr: [1, 2]}", "FILE: optimizer: {lr: .*} is not a list of values"),
        ("seed: []", "FILE: seed: \\[\\] is not a list of values"),
        ("5: [1]", "FILE: 5 is not the key"),
        ("augment.crop: [240, 320]", "FILE: augment.crop takes a list.*\\[\\[240, 320\\]\\]"),
        ("seed: [1, 1]", "FILE: seed has the value 1 twice"),
        ("- seed", "FILE: point 1: 'seed' is not a mapping"),
        ("- {seed: 1}\n- {seed: 2, name: a}", "FILE: points 1 and 2 differ in what they set: name"),
        ("name: [a, b]", "are named after what they try"),
        ("seed: !!set {a, b}", "FILE: seed"),
        ("seed: [!!binary aGk=]", "FILE: seed: .* cannot be a setting"),
    ],
)
def test_a_file_that_is_no_sweep_is_refused_with_its_name_and_key(content: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        points([], points_of(parse(content, "FILE"), "FILE"))


def test_a_key_in_the_file_and_beside_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="seed is set more than once"):
        points(["seed=5"], ({"seed": "1"}, {"seed": "2"}))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"optimizer.lr": 0.01, "model.backbone": "resnet50"}, "lr0.01-resnet50"),
        ({"optimizer.lr": 1e-5, "seed": 3}, "lr1e-05-seed3"),
        ({"optimizer.lr": 1e30}, "lr1e30"),
        ({"augment.crop": [240, 320], "eval.flip": True}, "crop240x320-flip-true"),
        ({"augment.crop": None}, "crop-none"),
        ({"model": {"name": "unet", "backbone": "resnet50"}}, "unet"),
        ({"model.weights": "/data/my weights.pt"}, "data-my-weights.pt"),
    ],
)
def test_a_point_has_a_short_name(values: dict[str, Any], expected: str) -> None:
    assert label(values) == expected
