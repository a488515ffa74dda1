"""A person's own images and masks: classes, of the masks' values or of a class file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from folder_files import BLACK, GREEN, RED, ROWS, WHITE, make, write_image, write_mask
from PIL import Image

from segctl.errors import DataError
from segctl.plugin import dataset_info
from segctl_datasets.folder import Folder

# --- classes from the masks


def test_classes_are_the_values_found_and_said(tmp_path: Path) -> None:
    make(tmp_path, {"a": [[0, 7, 7], [9, 9, 255]], "b": [[0, 0, 0], [0, 0, 11]]}, mode="P")
    for split in ("train", "val"):  # one mask in each, but the same classes
        dataset = Folder(tmp_path, split)
        assert dataset.classes == ("class 0", "class 7", "class 9", "class 11")
        assert dataset.labels == (0, 7, 9, 11)
        assert "values found in the masks: 0, 7, 9, 11 (255 is ignored)" in dataset.notices[1].replace(" and", ",")
        assert dataset_info(dataset).ignore_index == 255
    masks = {
        dataset.name(0): dataset[0][1].tolist() for dataset in (Folder(tmp_path, "train"), Folder(tmp_path, "val"))
    }
    assert masks == {"a": [[0, 1, 1], [2, 2, 255]], "b": [[0, 0, 0], [0, 0, 3]]}


def test_consecutive_values_are_class_indices(ten: Path) -> None:
    dataset = Folder(ten, "train")
    assert (dataset.classes, dataset.labels) == (("class 0", "class 1", "class 2"), ())
    assert len(dataset_info(dataset).palette) == 3


def test_colours_that_nobody_chose_are_told_apart(tmp_path: Path) -> None:
    make(tmp_path, {"a": [list(range(10)), list(range(10, 20))], "b": [[0] * 10] * 2})
    for image in (tmp_path / "images").iterdir():
        write_image(image, (10, 2))
    palette = np.array(Folder(tmp_path, "train").palette, int)
    apart = [np.abs(one - other).sum() for one in palette for other in palette if (one != other).any()]
    assert len({tuple(color) for color in palette.tolist()}) == 20
    assert min(apart) >= 90  # of VOC's first twenty it is 64
    assert palette.max(axis=1).min() >= 90  # none looks like the photograph in shade
    (tmp_path / "classes.yaml").write_text(f"names: [background, {', '.join('abcdefghijklmnopqrs')}]\n")
    assert Folder(tmp_path, "train").palette[0] == (0, 0, 0)


def test_black_and_white_masks_are_background_and_foreground(tmp_path: Path) -> None:
    make(tmp_path, {"a": [[0, 255, 255], [0, 0, 0]], "b": [[0, 0, 0], [0, 0, 0]]})
    dataset = Folder(tmp_path, "train")
    assert (dataset.classes, dataset.labels) == (("background", "foreground"), (0, 255))
    assert "255 is taken for foreground" in dataset.notices[1]
    assert sum(Folder(tmp_path, split)[0][1].sum() for split in ("train", "val")) == 2


def test_masks_with_255_and_others_ignore_it(tmp_path: Path) -> None:
    make(tmp_path, {"a": [[0, 1, 255], [0, 0, 0]], "b": [[0, 0, 0], [0, 0, 1]]})
    dataset = Folder(tmp_path, "train")
    assert dataset.classes == ("class 0", "class 1")


def test_bilevel_masks(tmp_path: Path) -> None:
    for name in "ab":
        write_image(tmp_path / "images" / f"{name}.jpg")
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.array([[0, 1, 1], [0, 0, 1]], bool)).save(tmp_path / "masks" / f"{name}.png")
    dataset = Folder(tmp_path, "train")
    assert dataset.classes == ("class 0", "class 1")
    assert dataset[0][1].tolist() == [[0, 1, 1], [0, 0, 1]]


def test_masks_of_a_single_value_are_refused(tmp_path: Path) -> None:
    make(tmp_path, {"a": [[0, 0, 0], [0, 0, 255]], "b": np.zeros((2, 3))})
    Image.new("L", (3, 2)).save(tmp_path / "masks" / "a.png")
    with pytest.raises(DataError, match="masks hold nothing but 0, so there are no two classes"):
        Folder(tmp_path, "train")


def test_shades_of_grey_are_refused_unless_a_threshold_is_given(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 60).reshape(6, 10)
    for name in "ab":
        write_image(tmp_path / "images" / f"{name}.jpg", (10, 6))
        write_mask(tmp_path / "masks" / f"{name}.png", ramp)
    with pytest.raises(DataError, match="hold 59 values between 0 and 250, which look like shades") as raised:
        Folder(tmp_path, "train")
    assert "--dataset.threshold 128" in raised.value.hint
    dataset = Folder(tmp_path, "train", threshold=128)
    assert (dataset.classes, dataset.labels) == (("background", "foreground"), (0, 255))
    assert np.array_equal(dataset[0][1], (ramp.astype(np.uint8) >= 128).astype(np.uint8))


def test_jpeg_masks_need_a_threshold(tmp_path: Path) -> None:
    for name in "ab":
        write_image(tmp_path / "images" / f"{name}.png", (16, 16))
        (tmp_path / "masks").mkdir(exist_ok=True)
        mask = Image.new("L", (16, 16))
        mask.paste(255, (0, 0, 5, 16))
        mask.save(tmp_path / "masks" / f"{name}.jpg")
    with pytest.raises(DataError, match=r"images/a\.png has no mask") as raised:
        Folder(tmp_path, "train")
    assert "masks/a.jpg is in a format that changes values" in raised.value.hint
    mask = Folder(tmp_path, "train", threshold=128)[0][1]
    assert np.array_equal(mask, np.broadcast_to(np.arange(16) < 5, (16, 16)).astype(np.uint8))


def test_rgb_masks_ask_for_colours(tmp_path: Path) -> None:
    make(tmp_path, {name: [[RED, BLACK, BLACK], [GREEN, BLACK, RED]] for name in "ab"})
    with pytest.raises(DataError, match=r"masks/[ab]\.png is an RGB image, and nothing says which colour") as raised:
        Folder(tmp_path, "train")
    assert 'colors, a list of their colours, such as ["#000000", "#00ff00", "#ff0000"]' in raised.value.hint


def test_changed_masks_are_looked_at_again(ten: Path) -> None:
    assert len(Folder(ten, "train").classes) == 3
    for number in range(10):
        path = ten / "masks" / f"img_{number}.png"
        write_mask(path, [[0, 1, 2], [3, 3, 3]])
        os.utime(path, ns=(1, 1))
    assert len(Folder(ten, "train").classes) == 4


# --- classes from classes.yaml


def test_names_and_default_values(ten: Path) -> None:
    (ten / "classes.yaml").write_text("names: [off, yes, 1e3]\n")
    dataset = Folder(ten, "train")
    assert dataset.classes == ("off", "yes", "1e3")  # never booleans or numbers
    assert (dataset.labels, len(dataset.notices)) == ((), 1)
    assert dataset[0][1].tolist() == ROWS


@pytest.mark.parametrize(
    "text",
    [
        'names: [ground, road, car]\nvalues: [0, 7, 8]\ncolors: ["#102030", [1, 2, 3], "#FFFFFF"]\nignore: [9, 100]\n',
        'names: {0: ground, 7: road, 8: car}\ncolors: ["#102030", [1, 2, 3], "#ffffff"]\nignore: [9, 100]\n',
    ],
)
def test_values_colours_and_ignored_values(tmp_path: Path, text: str) -> None:
    make(tmp_path, {name: [[0, 7, 8], [9, 100, 7]] for name in "ab"})
    (tmp_path / "classes.yaml").write_text(text)
    dataset = Folder(tmp_path, "train")
    assert dataset.classes == ("ground", "road", "car")
    assert dataset.labels == (0, 7, 8)
    assert dataset.palette == ((16, 32, 48), (1, 2, 3), (255, 255, 255))
    assert dataset[0][1].tolist() == [[0, 1, 2], [255, 255, 1]]


def test_an_undeclared_value_names_the_file(ten: Path) -> None:
    (ten / "classes.yaml").write_text("names: [a, b]\nvalues: [0, 1]\n")
    with pytest.raises(DataError, match=r"masks/img_\d\.png holds the value 2 on 1 of its 6 pixels") as raised:
        Folder(ten, "train")[0]
    assert raised.value.hint == "Declared are 0, 1 and 255."


def test_two_names_for_black_and_white_masks(tmp_path: Path) -> None:
    """With 255 ignored, as everywhere else, such masks would silently be all background."""
    make(tmp_path, {name: [[0, 255, 255], [0, 0, 0]] for name in "ab"})
    (tmp_path / "classes.yaml").write_text("names: [road, crack]\n")
    dataset = Folder(tmp_path, "train")
    assert (dataset.classes, dataset.labels) == (("road", "crack"), (0, 255))
    assert "255 is 'crack'" in dataset.notices[1]
    assert dataset[0][1].tolist() == [[0, 1, 1], [0, 0, 0]]


def test_255_can_be_a_class(tmp_path: Path) -> None:
    make(tmp_path, {name: [[0, 255, 255], [0, 0, 0]] for name in "ab"})
    (tmp_path / "classes.yaml").write_text("names: {0: road, 255: crack}\n")
    assert Folder(tmp_path, "train")[0][1].max() == 1


def test_rgb_masks_with_declared_colours(tmp_path: Path) -> None:
    make(tmp_path, {name: [[RED, BLACK, BLACK], [GREEN, WHITE, RED]] for name in "ab"})
    make(tmp_path, {name: [[BLACK, BLACK, BLACK], [BLACK, WHITE, BLACK]] for name in ("c", "d")})  # grey throughout
    (tmp_path / "classes.yaml").write_text(
        'names: [ground, weed, crop]\ncolors: ["#000000", "#ff0000", "#00ff00"]\nignore: "#ffffff"\n'
    )
    masks = {}
    for split in ("train", "val"):
        dataset = Folder(tmp_path, split)
        masks |= {dataset.name(index): dataset[index][1].tolist() for index in range(len(dataset))}
    assert masks["a"] == masks["b"] == [[1, 0, 0], [2, 255, 1]]
    assert masks["c"] == masks["d"] == [[0, 0, 0], [0, 255, 0]]
    write_mask(tmp_path / "masks" / "a.png", [[RED, BLACK, BLACK], [GREEN, (0, 0, 9), RED]])
    with pytest.raises(DataError, match=r"a\.png holds the colour #000009 on 1 of its 6 pixels"):
        [Folder(tmp_path, split)[index] for split in ("train", "val") for index in range(len(Folder(tmp_path, split)))]


def test_another_class_file_by_option(ten: Path) -> None:
    (ten / "coarse.yml").write_text("names: [ground, thing]\nvalues: [0, 1]\nignore: [2, 255]\n")
    assert Folder(ten, "train", classes="coarse.yml")[0][1].tolist() == [[0, 1, 255], [0, 1, 255]]
    with pytest.raises(DataError, match=r"class file .*none\.yaml does not exist"):
        Folder(ten, "train", classes="none.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [a, b]\ncolours: []\n", "there is no key 'colours'; .* Did you mean 'colors'"),
        ("colors: []\n", "the key 'names' is missing"),
        ("names: a, b\n", "'names' must be a list of class names"),
        ("names: [a]\n", "'names' lists 1 classes; there must be 2 to 255"),
        ("names: [a, a]\n", "'names' has a more than once"),
        ("names: {0: a, x: b}\n", "'names' has 'x' where a mask's value, 0 to 255, should be"),
        ("names: {0: a, 1: b}\nvalues: [0, 1]\n", "'values' repeats what 'names' says"),
        ("names: [a, b]\nvalues: [0]\n", "'values' must list one item for each of the 2 names, but has 1"),
        ("names: [a, b]\nvalues: [0, 256]\n", "'values' has '256' where a mask's value"),
        ("names: [a, b]\nvalues: [3, 3]\n", "'values' has 3 more than once"),
        ("names: [a, b]\nvalues: [0, 255]\nignore: 255\n", "'values' has 255 more than once, 'ignore' included"),
        ("names: [a, b]\ncolors: [red, blue]\n", "'colors' has 'red' where a colour should be"),
        ("names: [a, b]\ncolors: [#ff0000, #00ff00]\n", r"classes\.yaml:\d is not YAML"),
        ("names: [a, b]\nignore: none\n", "'ignore' has 'none' where a mask's value"),
        ("names: [a\n", r"classes\.yaml:\d is not YAML"),
        ("names:\n\t- a\n", r"classes\.yaml:2 is not YAML: found character '\\t'"),
        ("names: [a, b]\nnames: [c, d]\n", r"classes\.yaml:1 is not YAML: 'names' is given twice"),
        ("", "does not hold the keys of a class file"),
        ("- a\n- b\n", "does not hold the keys of a class file"),
    ],
)
def test_wrong_class_files(ten: Path, text: str, message: str) -> None:
    (ten / "classes.yaml").write_text(text)
    with pytest.raises(DataError) as raised:
        Folder(ten, "train")
    assert raised.match(message)
    assert str(ten / "classes.yaml") in raised.value.message


# --- values to ignore, without a class file


@pytest.mark.parametrize("ignore", [11, (11,), (11, 12)])
def test_ignored_values_are_no_classes(tmp_path: Path, ignore) -> None:
    make(tmp_path, {"a": [[0, 7, 11], [9, 9, 255]], "b": [[0, 0, 0], [0, 0, 11]]})
    for split in ("train", "val"):
        dataset = Folder(tmp_path, split, ignore=ignore)
        assert (dataset.classes, dataset.labels) == (("class 0", "class 7", "class 9"), (0, 7, 9))
        assert "0, 7 and 9 (11 and 255 are ignored)" in dataset.notices[1]
    masks = {
        dataset.name(0): dataset[0][1].tolist()
        for dataset in (Folder(tmp_path, split, ignore=ignore) for split in ("train", "val"))
    }
    assert masks == {"a": [[0, 1, 255], [2, 2, 255]], "b": [[0, 0, 0], [0, 0, 255]]}


def test_ignored_values_beside_black_and_white_and_thresholds(tmp_path: Path) -> None:
    make(tmp_path, {"a": [[0, 128, 255], [0, 0, 0]], "b": [[0, 0, 0], [0, 0, 128]]})
    for options in ({}, {"threshold": 200}):
        splits = [Folder(tmp_path, split, ignore=128, **options) for split in ("train", "val")]
        assert splits[0].classes == ("background", "foreground")
        masks = {dataset.name(0): dataset[0][1].tolist() for dataset in splits}
        assert masks == {"a": [[0, 255, 1], [0, 0, 0]], "b": [[0, 0, 0], [0, 0, 255]]}


def test_ignored_values_and_a_class_file(ten: Path) -> None:
    (ten / "classes.yaml").write_text("names: [ground, road]\n")
    assert Folder(ten, "train", ignore=2)[0][1].tolist() == [[0, 1, 255], [0, 1, 255]]
    with pytest.raises(DataError, match=r"ignore has the value 1, which is the class 'road' in .*classes\.yaml"):
        Folder(ten, "train", ignore=(2, 1))


def test_nothing_left_but_what_is_ignored(tmp_path: Path) -> None:
    make(tmp_path, {"a": [[0, 1, 1], [0, 0, 0]], "b": [[0, 0, 0], [0, 0, 1]]})
    with pytest.raises(DataError, match=r"hold nothing but 0, 1 \(ignored: 1\)") as raised:
        Folder(tmp_path, "train", ignore=1)
    assert "Look at the masks" in raised.value.hint
    with pytest.raises(DataError, match="ignore has 256"):
        Folder(tmp_path, "train", ignore=256)
