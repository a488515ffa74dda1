from __future__ import annotations

import pytest

from segctl.cli.argv import gather_plugin_options
from segctl.errors import ConfigError


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("train --model.backbone resnet50", "train --plugin-option=model.backbone=resnet50"),
        ("train --model.backbone=resnet50", "train --plugin-option=model.backbone=resnet50"),
        ("train r --loss.ignore -1 --lr 0.1", "train r --plugin-option=loss.ignore=-1 --lr 0.1"),
        ("eval --dataset.year 2012", "eval --plugin-option=dataset.year=2012"),
        ("train --model.output-stride 8", "train --plugin-option=model.output_stride=8"),
        ("train --model.a=b=c", "train --plugin-option=model.a=b=c"),
        ("train --model.a 1 --model.b 2", "train --plugin-option=model.a=1 --plugin-option=model.b=2"),
        ("train --model fcn --modle.x 1", "train --model fcn --modle.x 1"),
        ("train --set model.x=1", "train --set model.x=1"),
        ("train -- --model.x 1", "train -- --model.x 1"),
        ("status --model.x 1", "status --model.x 1"),
        ("", ""),
    ],
)
def test_only_options_of_plugins_are_gathered(words: str, expected: str) -> None:
    assert gather_plugin_options(words.split()) == expected.split()


def test_a_value_may_hold_spaces_line_breaks_or_nothing() -> None:
    assert gather_plugin_options(["train", "--loss.weight", "[1, 2,\n3]"]) == [
        "train",
        "--plugin-option=loss.weight=[1, 2,\n3]",
    ]
    assert gather_plugin_options(["train", "--loss.weight="]) == ["train", "--plugin-option=loss.weight="]


@pytest.mark.parametrize("words", ["train --model.backbone", "train --model.backbone --lr 1"])
def test_an_option_without_value_is_refused(words: str) -> None:
    with pytest.raises(ConfigError, match=r"--model\.backbone has no value"):
        gather_plugin_options(words.split())
