"""A person's own images and masks: pairs, splits, classes."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segctl import registry
from segctl.config.schema import Plugin
from segctl.errors import DataError
from segctl.plugin import dataset_info
from segctl_datasets.folder import Folder

RED, GREEN, BLACK, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 0), (255, 255, 255)


def write_mask(path: Path, rows, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.array(rows, np.uint8))
    if mode == "P":
        picture.putpalette([7, 77, 177] * 256)
    picture.save(path)


def write_image(path: Path, size: tuple[int, int] = (3, 2), **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (1, 2, 3)).save(path, **options)


def make(root: Path, masks: Mapping[str, object], *, image_suffix: str = ".jpg", mode: str = "L") -> Path:
    """Masks by name; the images beside them are 3 x 2."""
    for name, rows in masks.items():
        write_image(root / "images" / f"{name}{image_suffix}")
        write_mask(root / "masks" / f"{name}.png", rows, mode)
    return root


ROWS = [[0, 1, 2], [0, 1, 255]]


def names(dataset: Folder) -> list[str]:
    return [dataset.name(index) for index in range(len(dataset))]


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    return make(tmp_path, {f"img_{number}": ROWS for number in range(10)})


# --- pairs


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".png", ".tiff", ".bmp", ".webp"])
def test_images_and_masks_pair_up_by_name(tmp_path: Path, suffix: str) -> None:
    make(tmp_path, {"b": ROWS, "a.v1": ROWS, "site 2/a.v1": ROWS}, image_suffix=suffix)
    (tmp_path / "images" / ".hidden.jpg").write_text("")
    (tmp_path / "images" / "Thumbs.db").write_text("")
    dataset, rest = Folder(tmp_path, "train"), Folder(tmp_path, "val")
    assert sorted(names(dataset) + names(rest)) == ["a.v1", "b", "site 2/a.v1"]
    image, mask = dataset[0]
    assert (image.shape, image.dtype) == ((2, 3, 3), np.uint8)
    assert mask.tolist() == ROWS
    assert mask.dtype == np.uint8


def test_a_folder_is_found_as_the_data_root_or_below_it(ten: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("data")
    (root / "folder").symlink_to(ten)
    for data_root in (ten, root):
        assert len(registry.open_dataset(Plugin(name="folder"), data_root, "train")) > 0


def test_order_does_not_depend_on_how_files_were_made(tmp_path: Path) -> None:
    letters = list("hacegbdf")
    first = make(tmp_path / "1", dict.fromkeys(letters, ROWS))
    second = make(tmp_path / "2", dict.fromkeys(reversed(letters), ROWS))
    for split in ("train", "val"):
        listed = names(Folder(first, split))
        assert listed == names(Folder(second, split)) == sorted(listed)


def test_masks_may_have_a_longer_name(tmp_path: Path) -> None:
    for name in ("a", "b", "sub/c"):
        write_image(tmp_path / "images" / f"{name}.jpg")
        write_mask(tmp_path / "masks" / f"{name}_mask.gif", [[0, 1, 1], [0, 0, 0]])
    with pytest.raises(DataError, match=r"images/a\.jpg has no mask, nor have 2 others") as raised:
        Folder(tmp_path, "train")
    assert "masks/a_mask.gif: if that is the mask, say --dataset.mask_suffix _mask" in raised.value.hint
    dataset = Folder(tmp_path, "train", mask_suffix="_mask")
    assert dataset[0][1].tolist() == [[0, 1, 1], [0, 0, 0]]


def test_it_can_be_sent_to_other_processes(ten: Path) -> None:
    dataset = Folder(ten, "train")
    again = pickle.loads(pickle.dumps(dataset))
    assert dataset_info(again) == dataset_info(dataset)
    assert again[1][1].tolist() == ROWS


# --- splits


def test_a_hash_of_the_names_holds_images_out(tmp_path: Path) -> None:
    make(tmp_path, {f"{number:03d}": ROWS for number in range(200)})
    train, val = Folder(tmp_path, "train"), Folder(tmp_path, "val")
    assert sorted(names(train) + names(val)) == [f"{number:03d}" for number in range(200)]
    assert 25 <= len(val) <= 55  # 40 expected, standard deviation 5.7
    assert f"{len(val)} of 200 images are held out as val, by a hash of their names" in train.notices[0]
    assert len(Folder(tmp_path, "val", val_fraction=0.5)) > len(val)
    before = set(names(val))
    make(tmp_path, {f"new_{number}": ROWS for number in range(50)})
    assert {name for name in names(Folder(tmp_path, "val")) if "new" not in name} == before


def test_no_split_stays_empty(tmp_path: Path) -> None:
    make(tmp_path, {"only": ROWS})
    with pytest.raises(DataError, match="holds one image, which cannot be divided"):
        Folder(tmp_path, "train")
    make(tmp_path, {"other": ROWS})
    for fraction in (0.001, 0.999):
        assert len(Folder(tmp_path, "train", val_fraction=fraction)) == 1
        assert len(Folder(tmp_path, "val", val_fraction=fraction)) == 1


def test_lists_divide_and_choose(ten: Path) -> None:
    (ten / "train.txt").write_text("img_7\nimages/img_2.jpg\n\n./img_9.jpg\n")
    (ten / "val.txt").write_text("\ufeffimg_1\r\nimg_0\r\n", encoding="utf-8")
    (ten / "masks" / "img_5.png").unlink()  # not listed, so it does not matter
    assert names(Folder(ten, "train")) == ["img_7", "img_2", "img_9"]
    val = Folder(ten, "val")
    assert names(val) == ["img_1", "img_0"]
    assert dict(val.splits) == {"train": None, "val": None}
    assert not any("held out" in notice for notice in val.notices)
    with pytest.raises(DataError, match=r"has no split 'test'; it has train and val\. Write the list .*test\.txt"):
        Folder(ten, "test")


def test_samples_in_both_lists_are_said(ten: Path) -> None:
    (ten / "train.txt").write_text("img_1\nimg_2\nimg_3\n")
    (ten / "val.txt").write_text("img_2\nimg_3\nimg_4\n")
    assert "2 of the 3 samples in val.txt are in train.txt too" in Folder(ten, "train").notices[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "img_1\n\nimg_33\n",
            r"train\.txt:3 lists 'img_33', but .*images holds no such image\. Did you mean 'img_3'\?",
        ),
        ("img_1\nimg_2\nimg_1.jpg\n", r"train\.txt:3 lists 'img_1\.jpg' a second time, after line 1"),
        ("", r"train\.txt is empty"),
    ],
)
def test_wrong_lists(ten: Path, text: str, message: str) -> None:
    (ten / "train.txt").write_text(text)
    with pytest.raises(DataError) as raised:
        Folder(ten, "train")
    assert raised.match(message)


def test_sub_folders_divide(tmp_path: Path) -> None:
    make(tmp_path, {"train/a": ROWS, "train/deep/b": ROWS, "val/a": ROWS})
    write_image(tmp_path / "images" / "test" / "unlabelled.jpg")
    write_image(tmp_path / "images" / "beside.jpg")
    train = Folder(tmp_path, "train")
    assert names(train) == ["train/a", "train/deep/b"]
    assert names(Folder(tmp_path, "val")) == ["val/a"]
    assert train.notices[0] == "1 images outside images/train, images/val and images/test are not used."
    with pytest.raises(DataError, match=r"images/test/unlabelled\.jpg has no mask"):
        Folder(tmp_path, "test")


def test_a_split_without_its_sub_folder(tmp_path: Path) -> None:
    make(tmp_path, {"train/a": ROWS})
    with pytest.raises(DataError, match=r"has no split 'val'; it has train\. Put its images into .*images/val"):
        Folder(tmp_path, "val")
    (tmp_path / "images" / "val").mkdir()
    with pytest.raises(DataError, match=r"images/val holds no images"):
        Folder(tmp_path, "val")


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


# --- what is wrong with the files


def test_a_missing_mask_and_an_orphan_are_named(ten: Path) -> None:
    (ten / "masks" / "img_4.png").rename(ten / "masks" / "imh_4.png")
    with pytest.raises(DataError, match=r"images/img_4\.jpg has no mask: there is no .*masks/img_4\.png"):
        Folder(ten, "train")
    write_mask(ten / "masks" / "img_4.png", ROWS)
    with pytest.raises(DataError, match=r"masks/imh_4\.png has no image of that name"):
        Folder(ten, "val")


def test_two_files_of_one_name(ten: Path) -> None:
    write_image(ten / "images" / "img_4.png")
    with pytest.raises(DataError, match=r"images/img_4\.jpg and .*images/img_4\.png have one name"):
        Folder(ten, "train")


def test_a_mask_of_another_size(ten: Path) -> None:
    dataset = Folder(ten, "train")
    write_mask(ten / "masks" / f"{dataset.name(0)}.png", [[0, 1], [0, 1]])
    with pytest.raises(DataError, match=r"masks/img_\d\.png is 2 x 2 pixels, but its image .*img_\d\.jpg is 3 x 2"):
        dataset[0]


def test_damaged_files_are_named(ten: Path) -> None:
    dataset = Folder(ten, "train")
    image = ten / "images" / f"{dataset.name(0)}.jpg"
    image.write_bytes(image.read_bytes()[:100])
    with pytest.raises(DataError, match=rf"{image.name} cannot be decoded"):
        dataset[0]
    mask = ten / "masks" / f"{dataset.name(1)}.png"
    mask.write_bytes(b"")
    with pytest.raises(DataError, match=rf"{mask.name} cannot be decoded"):
        dataset[1]
    with pytest.raises(DataError, match=rf"{mask.name} cannot be decoded"):
        Folder(ten, "train")  # already when the classes are inferred


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match=r"images holds no images\. Images end in \.png"):
        Folder(tmp_path, "train")
    (tmp_path / "images" / "a.heic").write_text("")
    with pytest.raises(DataError, match=r"holds no images, but files ending in \.heic"):
        Folder(tmp_path, "train")


@pytest.mark.parametrize(
    "options", [{"val_fraction": 0.0}, {"val_fraction": 1.0}, {"threshold": 0}, {"threshold": 256}]
)
def test_options_out_of_range(ten: Path, options: dict[str, float]) -> None:
    with pytest.raises(DataError, match="must lie between"):
        Folder(ten, "train", **options)


def test_a_threshold_and_more_than_two_classes(ten: Path) -> None:
    (ten / "classes.yaml").write_text("names: [a, b, c]\n")
    with pytest.raises(DataError, match=r"With a threshold, .* can only name two classes"):
        Folder(ten, "train", threshold=1)
    (ten / "classes.yaml").write_text("names: [sky, rest]\n")
    assert Folder(ten, "train", threshold=1).classes == ("sky", "rest")


# --- EXIF


def photo(root: Path, name: str, orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    write_image(root / "images" / f"{name}.jpg", size, exif=exif)


@pytest.mark.parametrize(("mask_shape", "image_shape"), [((2, 6), (2, 6, 3)), ((6, 2), (6, 2, 3))])
def test_the_mask_says_which_way_a_photo_lies(tmp_path: Path, mask_shape, image_shape) -> None:
    """Stored 6 x 2, shown 2 x 6 (width x height): annotation tools save masks one way or the other."""
    for name in "ab":
        photo(tmp_path, name, 6, (6, 2))
        write_mask(tmp_path / "masks" / f"{name}.png", np.arange(12).reshape(mask_shape) % 2)
    assert Folder(tmp_path, "train")[0][0].shape == image_shape


@pytest.mark.parametrize(("orientation", "size"), [(3, (6, 2)), (2, (6, 2)), (8, (4, 4))])
def test_an_orientation_that_sizes_cannot_tell_is_asked_for(tmp_path: Path, orientation: int, size) -> None:
    for name in "ab":
        photo(tmp_path, name, orientation, size)
        write_mask(tmp_path / "masks" / f"{name}.png", np.arange(size[0] * size[1]).reshape(size[::-1]) % 2)
    with pytest.raises(
        DataError, match=rf"images/[ab]\.jpg is to be turned .*EXIF orientation {orientation}"
    ) as raised:
        Folder(tmp_path, "train")[0]
    assert "--dataset.exif upright" in raised.value.hint
    for exif in ("upright", "stored"):
        assert Folder(tmp_path, "train", exif=exif)[0][0].shape == (*size[::-1], 3)


# --- real photographs


def test_a_real_data_set_needs_nothing_but_its_files(test_data: Path, tmp_path: Path) -> None:
    """CamVid's files as a person would lay them out: the same pixels, and the classes are found."""
    (tmp_path / "images").symlink_to(test_data / "camvid" / "val")
    (tmp_path / "masks").symlink_to(test_data / "camvid" / "valannot")
    dataset = Folder(tmp_path, "val")
    assert dataset.labels == ()
    assert len(dataset.classes) == 12  # void, 11, is not known to be void
    mask = Image.open(test_data / "camvid" / "valannot" / f"{dataset.name(0)}.png")
    assert dataset[0][1].tobytes() == mask.tobytes()
    (tmp_path / "classes.yaml").write_text(f"names: [{', '.join('abcdefghijk')}]\nignore: 11\n")
    assert Folder(tmp_path, "val")[0][1].max() == 255
