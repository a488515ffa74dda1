"""What a configuration names becomes an object: a plugin gets what it asks for, and its faults are its own."""

from __future__ import annotations

import pytest

from segctl.config.schema import Plugin
from segctl.errors import ConfigError, DataError, PluginError
from segctl.registry import create_loss, create_model, find, open_dataset, resolve_plugin

SOURCE = """
from __future__ import annotations
from pathlib import Path
from typing import Literal
from segctl.errors import ConfigError
from segctl.plugin import Archive

def net(num_classes: int, *, width: int = 32, mode: Literal["a", "b"] = "a"):
    if width == 0:
        raise ValueError("no channels")
    if width == 1:
        raise ConfigError("model.width: 1 is too narrow.", "Two will do.")
    return {"num_classes": num_classes, "width": width, "mode": mode}

class Plain:
    def __init__(self, *, smooth: float = 1.0) -> None:
        self.given = {"smooth": smooth}

def weighted(num_classes: int, class_pixels, *, power: float = 0.5):
    return {"num_classes": num_classes, "weights": class_pixels, "power": power}

def keyword(*, ignore_index: int):
    return {"ignore_index": ignore_index}

def both(create_loss, *, second: str = "keyword"):
    return [create_loss("Plain", {"smooth": "2"}), create_loss(second)]

class Roads:
    classes = ("road", "rest")
    layout = ("images", "masks/all")
    homepage = "https://example.org/roads"
    def __init__(self, root: Path, split: str, *, year: int = 2012) -> None:
        self.given = (root, split, year)

class Streets(Roads):
    archives = (Archive("https://example.org/streets.zip"),)

class Drawn:
    def __init__(self, root: Path, split: str) -> None:
        self.given = (root, split)

class Late:
    @property
    def layout(self):
        return ("images",)
    def __init__(self, root: Path, split: str) -> None:
        self.given = (root, split)
"""


@pytest.fixture(autouse=True)
def acme(install, tmp_path, monkeypatch):
    site = install(
        tmp_path / "site",
        "acme",
        "1.0",
        {"acme_creating.py": SOURCE},
        models={"net": "acme_creating:net"},
        losses={name: f"acme_creating:{name}" for name in ("Plain", "weighted", "keyword", "both")},
        datasets={name.lower(): f"acme_creating:{name}" for name in ("Roads", "Streets", "Drawn", "Late")},
    )
    monkeypatch.syspath_prepend(site)


def test_a_model_is_made_with_its_options_and_the_number_of_classes():
    assert create_model(Plugin(name="net", options={"width": "8"}), 5) == {"num_classes": 5, "width": 8, "mode": "a"}


def test_options_are_completed_without_making_the_model():
    resolved = resolve_plugin("models", Plugin(name="acme:net", options={"mode": "b", "width": 0}))

    assert resolved == Plugin(name="acme:net", options={"width": 0, "mode": "b"})


def test_a_loss_gets_the_facts_that_it_asks_for_and_pixels_are_not_counted_for_it():
    def count():
        raise AssertionError("nobody asked")

    def make(name):
        return create_loss(Plugin(name=name), num_classes=3, ignore_index=255, class_pixels=count)

    assert make("Plain").given == {"smooth": 1.0}
    assert make("keyword") == {"ignore_index": 255}
    assert make("weighted") == {"num_classes": 3, "weights": count, "power": 0.5}


def test_a_loss_may_be_made_of_others_by_name_and_for_the_same_data():
    facts = {"num_classes": 3, "ignore_index": 7, "class_pixels": list}

    plain, keyword = create_loss(resolve_plugin("losses", Plugin(name="both")), **facts)

    assert plain.given == {"smooth": 2.0}
    assert keyword == {"ignore_index": 7}
    with pytest.raises(PluginError, match="There is no loss 'keywords'"):
        create_loss(Plugin(name="both", options={"second": "keywords"}), **facts)


def test_a_wrong_option_is_refused_before_anything_is_made():
    with pytest.raises(ConfigError, match=r"^model\.mode: 'c' is not one of a, b\.$"):
        create_model(Plugin(name="net", options={"mode": "c"}), 5)


def test_a_fault_of_a_plugin_names_it_and_keeps_the_cause():
    with pytest.raises(PluginError) as caught:
        create_model(Plugin(name="net", options={"width": 0}), 5)

    assert caught.value.message.startswith("Cannot make the model 'net' of acme 1.0: ValueError: no channels (")
    assert "acme_creating.py, line 10)" in caught.value.message
    assert isinstance(caught.value.__cause__, ValueError)


def test_what_a_plugin_says_on_purpose_is_passed_on():
    with pytest.raises(ConfigError) as caught:
        create_model(Plugin(name="net", options={"width": 1}), 5)

    assert (caught.value.message, caught.value.hint) == ("model.width: 1 is too narrow.", "Two will do.")


def test_a_data_set_lies_in_a_folder_of_its_name_or_right_under_the_data_root(tmp_path):
    own, root = tmp_path / "one", tmp_path / "two"
    for place in (own / "roads", root):
        (place / "images").mkdir(parents=True)
        (place / "masks" / "all").mkdir(parents=True)

    assert open_dataset(Plugin(name="roads"), own, "train").given == (own / "roads", "train", 2012)
    assert open_dataset(Plugin(name="acme:roads", options={"year": 2010}), str(root), "val").given == (
        root,
        "val",
        2010,
    )


def test_data_that_are_made_on_the_fly_need_no_folder(tmp_path):
    nowhere = tmp_path / "nowhere"

    assert open_dataset(Plugin(name="drawn"), nowhere, "train").given == (nowhere / "drawn", "train")
    assert open_dataset(Plugin(name="late"), nowhere, "train").given == (nowhere / "late", "train")


def test_missing_data_are_refused_with_both_places_and_what_should_be_there(tmp_path):
    with pytest.raises(DataError) as caught:
        open_dataset(Plugin(name="roads"), tmp_path, "train")

    assert caught.value.message == (
        f"Data set 'roads': it is neither in {tmp_path / 'roads'} nor in {tmp_path}, "
        "where there should be images and masks/all."
    )
    assert caught.value.hint == (
        "Name the folder that holds it with --data-root or $SEGCTL_DATA. The data come from https://example.org/roads."
    )


def test_missing_data_that_can_be_downloaded_say_how(tmp_path):
    with pytest.raises(DataError) as caught:
        open_dataset(Plugin(name="streets"), tmp_path, "train")

    assert caught.value.hint.endswith("$SEGCTL_DATA. 'segctl download streets' fetches it.")


def test_incomplete_data_are_told_from_missing_ones(tmp_path):
    (tmp_path / "roads" / "images").mkdir(parents=True)

    with pytest.raises(DataError, match=r"incomplete in .*/roads, where there is no masks/all\."):
        open_dataset(Plugin(name="roads"), tmp_path, "train")


def test_a_data_root_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(DataError) as caught:
        open_dataset(Plugin(name="roads"), tmp_path / "typo", "train")

    assert caught.value.message == f"Data set 'roads': there is no folder {tmp_path / 'typo'}."


def test_names_are_told_apart_by_case():
    assert find("losses", "Plain").target == "acme_creating:Plain"
    with pytest.raises(PluginError, match=r"There is no loss 'plain'\. Did you mean 'Plain'\?"):
        find("losses", "plain")
