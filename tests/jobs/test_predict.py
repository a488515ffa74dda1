"""Photographs of every mode, found and named; masks that fit them; overlays that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from segctl.config.load import dump, resolve
from segctl.errors import CheckpointError, DataError
from segctl.plugin import DatasetInfo
from segctl.results import Prediction
from segctl_jobs.checkpoint import CheckpointWriter
from segctl_jobs.photos import find_photos, output_names, read_photo
from segctl_jobs.pictures import class_shares, mask_picture, overlay_picture
from segctl_jobs.predict import predict
from segctl_models.enet import enet

INFO = DatasetInfo(
    classes=("background", "road", "sky", "tree", "a class with quite a long name"),
    palette=((0, 0, 0), (128, 64, 128), (70, 130, 180), (107, 142, 35), (220, 20, 60)),
)


def gradient(width: int = 60, height: int = 40) -> np.ndarray:
    """Red grows to the right, green downwards: every pixel tells where it is."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    image[..., 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    return image


# --- reading ---


def test_colour_is_read_as_it_is(tmp_path: Path) -> None:
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    assert np.array_equal(read_photo(tmp_path / "a.png"), gradient())


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_becomes_three_equal_channels(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(gradient()).convert(mode)
    picture.save(tmp_path / "a.png")
    expected = np.asarray(picture.convert("L"))
    assert np.array_equal(read_photo(tmp_path / "a.png"), np.repeat(expected[..., None], 3, axis=2))


def test_palette_pictures_give_their_colours(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 2), 1)
    picture.putpalette([0, 0, 0, 10, 200, 30])
    picture.save(tmp_path / "a.png")
    assert (read_photo(tmp_path / "a.png") == [10, 200, 30]).all()


def test_transparent_pixels_lie_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[0] = [200, 0, 0, 255]
    pixels[1] = [200, 0, 0, 0]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_photo(tmp_path / "a.png")
    assert (image[0] == [200, 0, 0]).all()
    assert (image[1] == 255).all()


def test_a_transparent_palette_entry_lies_on_white(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 2), 1)
    picture.putpalette([9, 9, 9, 10, 200, 30])
    picture.putpixel((0, 0), 0)
    picture.save(tmp_path / "a.png", transparency=0)
    image = read_photo(tmp_path / "a.png")
    assert image[0, 0].tolist() == [255, 255, 255]
    assert image[0, 1].tolist() == [10, 200, 30]


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bits_are_scaled_to_8(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 257, 128 * 257, 65535]], np.uint16).repeat(3, axis=0)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    image = read_photo(tmp_path / f"a.{suffix}")
    assert image[0, :, 0].tolist() == [0, 1, 128, 255]
    assert image.shape == (3, 4, 3)


def test_floating_point_pictures_are_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 0.5, 1.0]], np.float32)).save(tmp_path / "unit.tif")
    Image.fromarray(np.array([[0, 100, np.nan]], np.float32)).save(tmp_path / "bytes.tif")
    assert read_photo(tmp_path / "unit.tif")[0, :, 0].tolist() == [0, 128, 255]
    assert read_photo(tmp_path / "bytes.tif")[0, :, 0].tolist() == [0, 100, 0]


def test_cmyk_is_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    red, green, blue = read_photo(tmp_path / "a.jpg")[4, 4]
    assert red > 200
    assert max(green, blue) < 60


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda stored: stored),
        (2, lambda stored: stored[:, ::-1]),
        (3, lambda stored: stored[::-1, ::-1]),
        (4, lambda stored: stored[::-1]),
        (6, lambda stored: np.rot90(stored, -1)),  # the camera was turned: rotate clockwise to see it upright
        (8, lambda stored: np.rot90(stored, 1)),
    ],
)
def test_pictures_are_turned_upright(tmp_path: Path, orientation: int, upright) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(gradient()).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_photo(tmp_path / "a.png"), upright(gradient()))


@pytest.mark.parametrize("kept", [0.5, 0.95])
def test_a_truncated_picture_is_named(tmp_path: Path, kept: float) -> None:
    Image.fromarray(gradient()).save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match=r"cut\.jpg cannot be decoded: it is damaged or cut short"):
        read_photo(tmp_path / "cut.jpg")


def test_a_picture_larger_than_pillows_guard_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_photo(tmp_path / "a.png").shape == (40, 60, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


# --- finding and naming ---


def touch_pictures(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)


def test_folders_are_searched_in_order_and_what_is_no_picture_is_passed_over(tmp_path: Path) -> None:
    touch_pictures(tmp_path / "in", ["b.PNG", "a.jpg", "sub/c.webp", ".hidden/d.png"])
    (tmp_path / "in" / "notes.txt").write_text("hello")
    found = find_photos([tmp_path / "in"], tmp_path / "out")
    assert [path.relative_to(tmp_path / "in").as_posix() for path in found] == ["a.jpg", "b.PNG", "sub/c.webp"]


def test_outputs_of_an_earlier_prediction_are_no_photographs(tmp_path: Path) -> None:
    touch_pictures(tmp_path, ["a.jpg", "out/a_mask.png", "out/a_overlay.png", "b_mask.png"])
    found = find_photos([tmp_path], tmp_path / "out")
    assert [path.name for path in found] == ["a.jpg", "b_mask.png"]


def test_a_picture_that_is_given_twice_is_predicted_once(tmp_path: Path) -> None:
    touch_pictures(tmp_path, ["a.png"])
    assert find_photos([tmp_path / "a.png", tmp_path, tmp_path / "." / "a.png"], tmp_path / "out") == [
        tmp_path / "a.png"
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "gone.jpg", r"gone\.jpg does not exist\. Give picture files"),
        (lambda folder: write(folder / "text.jpg", "no picture"), r"text\.jpg is not a picture\."),
        (lambda folder: write(folder / "empty.png", ""), r"empty\.png is not a picture\."),
        (lambda folder: make_folder(folder / "none"), r"There is no picture in .*none\."),
    ],
)
def test_what_cannot_be_predicted_is_named(tmp_path: Path, make, message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_photos([make(tmp_path)], tmp_path / "out")


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a.jpg", "b.jpg"], ["a", "b"]),
        (["x/a.jpg", "y/a.jpg", "b.jpg"], ["x_a", "y_a", "b"]),
        (["a.jpg", "a.png"], ["a_jpg", "a_png"]),
        (["x/a.jpg", "x/a.png", "y/a.jpg"], ["x_a", "a_png", "y_a"]),
        (["x/A.jpg", "y/a.jpg"], ["x_A", "y_a"]),
        (["p/x/a.jpg", "q/x/a.jpg"], ["x_a_jpg", "x_a_jpg_2"]),
    ],
)
def test_names_tell_photographs_apart(paths: list[str], names: list[str]) -> None:
    assert output_names([Path("/photos") / path for path in paths]) == names


# --- the pictures that are written ---


def test_shares_are_of_the_classes_that_occur_the_largest_first() -> None:
    mask = np.array([[1, 1, 1, 2], [1, 1, 4, 2]])
    assert class_shares(mask, INFO) == {1: 5 / 8, 2: 2 / 8, 4: 1 / 8}
    assert list(class_shares(mask, INFO)) == [1, 2, 4]


def test_a_mask_holds_class_indices_and_colours() -> None:
    picture = mask_picture(np.array([[0, 1], [2, 4]]), INFO)
    assert np.asarray(picture).tolist() == [[0, 1], [2, 4]]
    assert picture.convert("RGB").getpixel((1, 1)) == INFO.palette[4]


@pytest.mark.parametrize("size", [(1, 1), (8, 5), (64, 64), (500, 333), (2000, 30), (30, 2000), (5000, 40)])
def test_an_overlay_of_any_size_shows_picture_and_legend(size: tuple[int, int]) -> None:
    width, height = size
    mask = np.arange(width * height).reshape(height, width) % 5
    overlay = overlay_picture(np.full((height, width, 3), 128, np.uint8), mask, INFO)
    assert overlay.mode == "RGB"
    assert 320 <= overlay.width <= 4096
    pixels = np.asarray(overlay).reshape(-1, 3)
    for index in set(mask.ravel().tolist()) - {0}:
        assert (pixels == INFO.palette[index]).all(axis=1).sum() >= 100, INFO.classes[index]  # its swatch


def test_an_overlay_tints_every_class_but_the_background() -> None:
    image, mask = np.full((700, 700, 3), 100, np.uint8), np.zeros((700, 700), np.int64)
    mask[:, 350:] = 2
    overlay = np.asarray(overlay_picture(image, mask, INFO))
    assert overlay[300, 100].tolist() == [100, 100, 100]
    expected = 0.45 * 100 + 0.55 * np.array(INFO.palette[2])
    assert np.abs(overlay[300, 600] - expected).max() <= 1


def test_the_legend_names_only_classes_that_occur() -> None:
    image = np.full((700, 700, 3), 100, np.uint8)
    one = overlay_picture(image, np.full((700, 700), 1), INFO)
    several = overlay_picture(image, np.arange(490_000).reshape(700, 700) % 5, INFO)
    assert one.height < several.height
    legend = np.asarray(one)[700:].reshape(-1, 3)
    assert not (legend == INFO.palette[3]).all(axis=1).any()


def test_names_wider_than_the_picture_are_shortened() -> None:
    names = ("x" * 500, "y")
    info = DatasetInfo(classes=names, palette=((255, 0, 0), (0, 255, 0)))
    overlay = overlay_picture(np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.int64), info)
    assert overlay.width == 640
    legend = np.asarray(overlay)[640:]
    assert (legend[:, -10:] == 255).all()  # nothing runs over the right edge


# --- the whole way ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, object]:
    """A checkpoint as training writes it: of a network whose last layer prefers class 2 by far."""
    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    model = enet(5)
    *_, last = (name for name, _ in model.named_parameters() if name.endswith("bias"))
    with torch.no_grad():
        model.get_parameter(last).zero_()
        model.get_parameter(last)[2] = 1000
    config = resolve(None, {"model": "enet", "dataset": "shapes"}, ())
    facts = {"classes": INFO.classes, "palette": INFO.palette, "labels": (), "flip_pairs": (), "ignore_index": 255}
    state = {"step": 1, "best_step": 1, "model": model.state_dict(), "ema": None}
    writer = CheckpointWriter(folder)
    writer.save({**state, "config": dump(config), "dataset_info": facts})
    writer.wait()
    return folder / "step-00000001.pt", config


def test_a_photograph_becomes_mask_overlay_and_shares(tmp_path: Path, trained: tuple[Path, object]) -> None:
    checkpoint, config = trained
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(gradient(60, 40)).save(tmp_path / "turned.jpg", exif=exif)
    calls = []
    (prediction,) = predict(
        checkpoint,
        config,
        [tmp_path / "turned.jpg"],
        tmp_path / "out",
        device="cpu",
        on_progress=lambda done, total: calls.append((done, total)),
    )
    assert prediction == Prediction(
        image=tmp_path / "turned.jpg",
        mask=tmp_path / "out" / "turned_mask.png",
        overlay=tmp_path / "out" / "turned_overlay.png",
        shares={"sky": 1.0},
    )
    assert calls == [(1, 1)]
    with Image.open(prediction.mask) as mask:
        assert mask.size == (40, 60)  # upright
        assert mask.mode == "P"
        assert set(np.unique(np.asarray(mask))) == {2}
        assert mask.convert("RGB").getpixel((0, 0)) == INFO.palette[2]
    with Image.open(prediction.overlay) as overlay:
        assert overlay.size[0] >= 320


def test_many_photographs_of_one_stem(tmp_path: Path, trained: tuple[Path, object]) -> None:
    checkpoint, config = trained
    touch_pictures(tmp_path, ["x/a.jpg", "y/a.jpg", "y/a.png", "z/A.png"])
    predictions = predict(checkpoint, config, [tmp_path / "x", tmp_path / "y", tmp_path / "z"], tmp_path / "out")
    masks = {prediction.mask for prediction in predictions}
    assert len(masks) == len(predictions) == 4
    assert all(mask.is_file() for mask in masks)


def test_predicting_again_replaces_what_was_predicted(tmp_path: Path, trained: tuple[Path, object]) -> None:
    checkpoint, config = trained
    touch_pictures(tmp_path, ["a.jpg"])
    first = predict(checkpoint, config, [tmp_path], tmp_path)
    assert predict(checkpoint, config, [tmp_path], tmp_path) == first
    assert sorted(path.name for path in tmp_path.glob("a*")) == ["a.jpg", "a_mask.png", "a_overlay.png"]


def test_a_mask_that_a_person_drew_is_never_replaced(tmp_path: Path, trained: tuple[Path, object]) -> None:
    checkpoint, config = trained
    touch_pictures(tmp_path, ["a.jpg"])
    drawn = Image.new("L", (4, 4), 1)
    ImageDraw.Draw(drawn).point((1, 1), 7)
    drawn.save(tmp_path / "a_mask.png")
    before = (tmp_path / "a_mask.png").read_bytes()
    with pytest.raises(
        DataError, match=r"a_mask\.png exists and was not written by segctl; it is not replaced\. Choose"
    ):
        predict(checkpoint, config, [tmp_path / "a.jpg"], tmp_path)
    assert (tmp_path / "a_mask.png").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_said_before_any_work(tmp_path: Path, trained: tuple[Path, object]) -> None:
    _, config = trained
    touch_pictures(tmp_path, ["a.jpg"])
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        DataError, match=r"file/out cannot be written: Not a directory\. Choose another folder with -o\."
    ):
        predict(tmp_path / "no-checkpoint.pt", config, [tmp_path / "a.jpg"], tmp_path / "file" / "out")


def test_a_missing_checkpoint(tmp_path: Path, trained: tuple[Path, object]) -> None:
    _, config = trained
    touch_pictures(tmp_path, ["a.jpg"])
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        predict(tmp_path / "gone.pt", config, [tmp_path / "a.jpg"], tmp_path / "out")


def test_real_photographs(tmp_path: Path, test_data: Path, trained: tuple[Path, object]) -> None:
    checkpoint, config = trained
    photo = sorted((test_data / "camvid" / "val").iterdir())[0]
    (prediction,) = predict(checkpoint, config, [photo], tmp_path)
    with Image.open(prediction.mask) as mask, Image.open(photo) as original:
        assert mask.size == original.size
    assert sum(prediction.shares.values()) == pytest.approx(1)
