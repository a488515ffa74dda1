"""Options are the keyword arguments of a factory; each wrong one is refused in a sentence."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, Field

from segctl.errors import ConfigError, PluginError
from segctl.options import arguments, describe, validate

if TYPE_CHECKING:
    from nowhere import Tensor


class Padding(Enum):
    ZEROS = "zeros"
    REFLECT = "reflect"


def even(value: int) -> int:
    if value % 2:
        raise ValueError("the width must be even")
    return value


def net(
    num_classes: int,
    *,
    backbone: Literal["resnet50", "resnet101"] = "resnet50",
    width: int = 32,
    rate: float = 0.1,
    aux: bool = False,
    stride: Literal[8, 16] = 8,
    weights: Path | None = None,
    rates: tuple[int, int, int] = (6, 12, 18),
    scales: list[float] | Literal["auto"] | None = None,
    padding: Padding = Padding.ZEROS,
    copy: Annotated[int, Field(gt=0)] = 1,
    groups: Annotated[int, AfterValidator(even)] = 2,
    title: str = "x",
    norm: Callable[[int], Any] = math.sqrt,
) -> Tensor:
    """A network.

    Args:
        num_classes: Classes.
        backbone: What encodes the image;
            ImageNet's.
        width (int): Channels: those of the first layer.

    Returns:
        title: Not an option's help.
    """


def options_of(factory, where=""):
    return {option.name: option for option in describe(factory, where)}


def test_options_are_described_from_the_signature_and_the_docstring():
    options = options_of(net, "model")

    assert list(options) == [
        *("backbone", "width", "rate", "aux", "stride", "weights", "rates", "scales", "padding", "copy", "groups"),
        *("title", "norm"),
    ]
    backbone = options["backbone"]
    assert (backbone.type_text, backbone.choices) == ("resnet50 | resnet101", ("resnet50", "resnet101"))
    assert (backbone.default, backbone.required) == ("resnet50", False)
    assert backbone.help == "What encodes the image; ImageNet's."
    assert options["width"].help == "Channels: those of the first layer."
    assert options["title"].help == ""
    assert options["weights"].type_text == "path | null"
    assert options["rates"].type_text == "tuple[int, int, int]"
    assert options["scales"].type_text == "list[float] | auto | null"
    assert options["padding"].choices == ("zeros", "reflect")


def test_a_class_is_described_by_its_init_and_the_docstrings_of_both():
    class Base:
        """A loss.

        Args:
            smooth: Added to both.
            power: Of the denominator.
        """

        def __init__(self, num_classes: int, *, smooth: float = 1.0, power: int = 1) -> None:
            """Makes it.

            Args:
                smooth: Laplace's.
            """

    class Derived(Base):
        pass

    for factory in (Base, Derived):
        options = options_of(factory, "loss")
        assert {name: option.help for name, option in options.items()} == {
            "smooth": "Laplace's.",
            "power": "Of the denominator.",
        }


def test_dataclasses_partial_functions_and_decorated_functions_are_factories_too():
    @dataclass
    class Data:
        root: Path
        split: str
        size: int = 64

    @functools.wraps(net)
    def wrapped(*args, **kwargs):
        return net(*args, **kwargs)

    assert list(options_of(Data, "dataset")) == ["size"]
    assert options_of(functools.partial(net, width=8), "model")["width"].default == 8
    assert options_of(wrapped, "model")["stride"].choices == (8, 16)


def test_what_segctl_gives_is_no_option_and_depends_on_the_kind():
    def loss(*, num_classes: int, ignore_index: int = 255, class_pixels: Callable[[], Any], gamma: float = 2.0): ...

    def dataset(root: Path, split: str, *, ignore_index: int = 255): ...

    assert list(options_of(loss, "loss")) == ["gamma"]
    assert list(options_of(dataset, "dataset")) == ["ignore_index"]
    assert list(options_of(dataset)) == []


def test_an_option_without_annotation_has_the_type_of_its_default():
    def model(num_classes, *, width=32, anything=None): ...

    with pytest.raises(ConfigError, match=r"^model\.width: 'wide' is not a whole number\.$"):
        validate(model, {"width": "wide"}, where="model")
    assert validate(model, {"anything": [1]}, where="model") == {"width": 32, "anything": [1]}


def test_a_type_that_exists_only_for_the_type_checker_is_named():
    def model(num_classes: Tensor, *, kernel: Tensor = None): ...

    with pytest.raises(PluginError, match=r"option 'kernel' of .*model cannot be evaluated: name 'Tensor'"):
        describe(model, "model")


def test_options_are_completed_with_defaults_as_plain_data():
    assert validate(net, {}, where="model") == {
        "backbone": "resnet50",
        "width": 32,
        "rate": 0.1,
        "aux": False,
        "stride": 8,
        "weights": None,
        "rates": [6, 12, 18],
        "scales": None,
        "padding": "zeros",
        "copy": 1,
        "groups": 2,
        "title": "x",
    }  # and `norm` is a function: it is left to the factory


@pytest.mark.parametrize(
    ("name", "given", "plain"),
    [
        ("width", "3", 3),
        ("width", 3.0, 3),
        ("rate", "1e-3", 0.001),
        ("rate", 1, 1.0),
        ("aux", "off", False),
        ("aux", "yes", True),
        ("aux", True, True),
        ("stride", 16, 16),
        ("rates", [1, 2, 3], [1, 2, 3]),
        ("scales", [1, 2], [1.0, 2.0]),
        ("scales", "auto", "auto"),
        ("scales", None, None),
        ("padding", "reflect", "reflect"),
        ("weights", "/w.pth", "/w.pth"),
        ("rate", math.inf, math.inf),
    ],
)
def test_values_that_fit_are_taken(name, given, plain):
    result = validate(net, {name: given}, where="model")[name]

    assert result == plain
    assert type(result) is type(plain)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"backbone": "resnet5"},
            "model.backbone: 'resnet5' is not one of resnet50, resnet101. Did you mean 'resnet50'?",
        ),
        ({"width": "abc"}, "model.width: 'abc' is not a whole number."),
        ({"width": 3.5}, "model.width: 3.5 is not a whole number."),
        ({"width": True}, "model.width: true is not a whole number."),
        ({"width": None}, "model.width: null is not a whole number."),
        ({"rate": [1]}, "model.rate: [1] is not a number."),
        ({"aux": "maybe"}, "model.aux: 'maybe' is not true or false."),
        ({"stride": 4}, "model.stride: 4 is not one of 8, 16."),
        ({"rates": [1, 2]}, "model.rates: [1, 2] is not a list of 3 whole numbers."),
        ({"rates": [1, 2, "x"]}, "model.rates: [1, 2, 'x'] is not a list of 3 whole numbers."),
        ({"scales": "aut"}, "model.scales: 'aut' is not a list of numbers, auto or null. Did you mean 'auto'?"),
        ({"scales": [1.0, False]}, "model.scales: [1.0, false] is not a list of numbers, auto or null."),
        ({"padding": "zero"}, "model.padding: 'zero' is not one of zeros, reflect. Did you mean 'zeros'?"),
        ({"copy": 0}, "model.copy: 0 is not a whole number above 0."),
        ({"groups": 3}, "model.groups: 3 is refused: the width must be even."),
        ({"title": 7}, "model.title: 7 is not a string."),
        ({"backbon": 1}, "model.backbon: acme has no option 'backbon'. Did you mean 'backbone'?"),
        (
            {"width": "x", "copy": -1},
            "model.width: 'x' is not a whole number.\nmodel.copy: -1 is not a whole number above 0.",
        ),
    ],
)
def test_values_that_do_not_are_refused(given, sentence):
    with pytest.raises(ConfigError) as caught:
        validate(net, given, where="model", name="acme")

    assert caught.value.message == sentence


def test_a_misspelt_option_is_told_which_there_are():
    def model(num_classes, *, width: int = 1, depth: int = 2): ...

    with pytest.raises(ConfigError) as caught:
        validate(model, {"height": 3}, where="model")
    assert caught.value.hint == "Its options are width and depth."


def test_keyword_arguments_of_any_name_do_not_swallow_misspelt_options():
    def model(num_classes, *, width: int = 1, **rest): ...

    with pytest.raises(ConfigError, match=r"has no option 'widht'\. Did you mean 'width'\?"):
        validate(model, {"widht": 3}, where="model")


def test_an_option_without_a_default_must_be_given():
    def dataset(root: Path, split: str, *, classes: int): ...

    with pytest.raises(ConfigError) as caught:
        validate(dataset, {}, where="dataset", name="folder")
    assert caught.value.message == "dataset.classes is missing: folder needs a whole number."
    assert validate(dataset, {"classes": 2}, where="dataset") == {"classes": 2}


def test_what_was_typed_counts_where_the_option_is_a_string():
    assert validate(net, {"title": 7}, where="model", texts={"title": "007"})["title"] == "007"
    assert validate(net, {"width": 7}, where="model", texts={"width": "007"})["width"] == 7


def test_paths_that_are_given_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")

    assert validate(net, {"weights": "w.pth"}, where="model")["weights"] == str(tmp_path / "w.pth")
    assert validate(net, {"weights": "~/w.pth"}, where="model")["weights"] == "/home/someone/w.pth"


def test_the_factory_is_called_with_what_its_signature_declares():
    given = {"weights": "/w.pth", "padding": "reflect", "rates": [1, 2, 3], "aux": "on"}

    assert arguments(net, given, where="model") == {
        "weights": Path("/w.pth"),
        "padding": Padding.REFLECT,
        "rates": (1, 2, 3),
        "aux": True,
    }


def test_nan_is_refused_because_it_does_not_equal_itself_when_it_is_read_again():
    with pytest.raises(ConfigError, match=r"model\.rate: this value cannot be recorded"):
        validate(net, {"rate": math.nan}, where="model")
