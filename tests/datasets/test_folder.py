"""A person's own images and masks: pairs, what can be wrong with them, photographs."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from folder_files import ROWS, make, names, write_image, write_mask
from PIL import Image

from segctl import registry
from segctl.cli.app import main
from segctl.config.schema import Plugin
from segctl.errors import DataError
from segctl.plugin import dataset_info
from segctl_datasets.folder import Folder

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


def test_void_is_left_out_of_classes_and_measures_by_an_option(
    test_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """On the command line, with CamVid's own masks and no class file: 11, void, is counted as ignored."""
    for folder, source in (("images", "val"), ("masks", "valannot")):
        (tmp_path / folder).mkdir()
        for file in sorted((test_data / "camvid" / source).iterdir())[:6]:
            (tmp_path / folder / file.name).symlink_to(file)

    command = ["data", "check", "folder", "--dataset.ignore", "11", "--data-root", str(tmp_path), "--json"]
    assert main(command) == 0

    splits = json.loads(capfd.readouterr().out)["splits"]
    masks = [np.asarray(Image.open(file)) for file in (tmp_path / "masks").iterdir()]
    for value in range(11):
        counted = sum(split["classes"][f"class {value}"]["pixels"] for split in splits)
        assert counted == sum((mask == value).sum() for mask in masks)
    assert "class 11" not in splits[0]["classes"]
    assert sum(split["ignored"] for split in splits) == sum((mask == 11).sum() for mask in masks) > 0
