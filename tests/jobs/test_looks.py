"""What a device does to the pixels of a crop: the same as a data worker does, and the same as by hand."""

from __future__ import annotations

import colorsys
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from segctl.config.schema import Augment, Input
from segctl.plugin import dataset_info
from segctl_datasets.shapes import Shapes
from segctl_jobs.data import Batch, StepSampler, TrainingSamples, training_batches
from segctl_jobs.distributed import World
from segctl_jobs.looks import Look, apply_looks, draw_look

ALONE = World(0, 1, 0, 1, torch.device("cpu"))
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
EVERYTHING = Augment(crop=(40, 56), brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1, blur=0.5)


def batches(*, finished: bool, workers: int = 0, start: int = 0) -> list[Batch]:
    dataset = Shapes(Path(), "train", size=48, samples=9)
    samples = TrainingSamples(dataset, dataset_info(dataset), 1, EVERYTHING, Input(), finished=finished)
    return list(training_batches(samples, StepSampler(9, 4, 1, start=start, total=4), ALONE, workers))


def test_where_the_looks_are_applied_changes_nothing() -> None:
    drawn: list[Look] = []
    for done, left in zip(batches(finished=True), batches(finished=False), strict=True):
        assert done.looks is None
        assert left.looks is not None
        assert torch.equal(done.masks, left.masks)
        assert not torch.equal(done.images, left.images)
        apply_looks(left.images, left.looks)
        assert torch.equal(done.images, left.images)
        drawn += left.looks
    assert {look.mirrored for look in drawn} == {True, False}
    assert {look.blur is None for look in drawn} == {True, False}
    assert len({look.hue for look in drawn}) == len(drawn)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_looks_depend_neither_on_workers_nor_on_what_ran_before(workers: int) -> None:
    alone, helped, resumed = (
        batches(finished=False),
        batches(finished=False, workers=workers),
        batches(finished=False, workers=workers, start=2),
    )
    for one, other in itertools.chain(zip(alone, helped, strict=True), zip(alone[2:], resumed, strict=True)):
        assert one.looks == other.looks
        assert torch.equal(one.images, other.images)


def gaussian(picture: np.ndarray, sigma: float) -> np.ndarray:
    """(h, w, 3) by its definition, 5 x 5 pixels, mirrored beyond the edges."""
    weights = np.exp(-0.5 * (np.arange(-2, 3) / sigma) ** 2)
    weights /= weights.sum()
    padded = np.pad(picture.astype(float), ((2, 2), (2, 2), (0, 0)), mode="reflect")
    height, width = picture.shape[:2]
    return sum(
        weights[dy] * weights[dx] * padded[dy : dy + height, dx : dx + width] for dy in range(5) for dx in range(5)
    )


def by_hand(picture: np.ndarray, look: Look) -> np.ndarray:
    """(h, w, 3) uint8 to float: what the look does to it, by the definitions, in the order of its fields."""
    pixels = picture.astype(float)

    def mixed(other: np.ndarray | float, share: float) -> np.ndarray:
        return np.clip(share * pixels + (1 - share) * other, 0, 255)

    def grey() -> np.ndarray:
        return pixels @ [0.299, 0.587, 0.114]  # ITU-R BT.601

    if look.mirrored:
        pixels = pixels[:, ::-1]
    if look.brightness is not None:
        pixels = mixed(0.0, look.brightness)
    if look.contrast is not None:
        pixels = mixed(float(grey().mean()), look.contrast)
    if look.saturation is not None:
        pixels = mixed(grey()[..., None], look.saturation)
    if look.hue is not None:
        turned = []
        for color in pixels.reshape(-1, 3) / 255:
            hue, saturation, value = colorsys.rgb_to_hsv(*color)
            turned.append(colorsys.hsv_to_rgb((hue + look.hue) % 1, saturation, value))
        pixels = 255 * np.array(turned).reshape(pixels.shape)
    return pixels if look.blur is None else gaussian(pixels, look.blur)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("look", "most"),  # each step cuts or rounds to whole numbers, and the next ones enlarge that
    [
        ({"mirrored": True}, 0),
        ({"brightness": 1.4}, 1),
        ({"brightness": 0.6}, 1),
        ({"contrast": 1.4}, 1.5),
        ({"contrast": 0.6}, 1.5),
        ({"saturation": 1.4}, 1.5),
        ({"saturation": 0.6}, 1.5),
        ({"hue": 0.3}, 2),
        ({"hue": -0.3}, 2),
        ({"mirrored": True, "brightness": 1.3, "contrast": 0.7, "saturation": 1.3, "hue": -0.1, "blur": 1.2}, 5),
    ],
    ids=str,
)
def test_a_look_is_what_its_formulas_say(look: dict[str, float], most: float, device: str) -> None:
    picture = np.random.default_rng(5).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    picture[3:6, 4:8] = (200, 90, 30)
    images = torch.full((1, 3, 15, 17), 7, dtype=torch.uint8)
    images[0, :, 2:11, 4:15] = torch.from_numpy(picture).permute(2, 0, 1)
    images = images.to(device)
    wanted = Look(2, 4, 9, 11, **look)

    apply_looks(images, [wanted])

    changed = images[0, :, 2:11, 4:15].permute(1, 2, 0).cpu().numpy()
    assert np.abs(changed - by_hand(picture, wanted)).max() <= most


@pytest.mark.parametrize("sigma", [0.1, 0.4, 1.0, 2.0])
def test_the_blur_is_a_gaussian(sigma: float) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (31, 23, 3), dtype=np.uint8)
    picture[:10] = 255  # an overflow would show
    images = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None]
    apply_looks(images, [Look(0, 0, 31, 23, blur=sigma)])
    blurred = images[0].permute(1, 2, 0).numpy()
    assert np.abs(blurred - gaussian(picture, sigma)).max() <= 2
    assert np.abs(blurred - gaussian(picture, sigma)).mean() < 0.6  # rounding alone makes 0.25
    if sigma == 0.1:
        assert np.array_equal(blurred, picture)


def test_padding_keeps_its_colour() -> None:
    images = torch.full((2, 3, 12, 16), 7, dtype=torch.uint8)
    images[:, :, 2:10, 5:13] = torch.randint(50, 200, (2, 3, 8, 8), dtype=torch.uint8)
    before = images.clone()
    look = Look(2, 5, 8, 8, mirrored=True, brightness=1.5, contrast=0.5, saturation=0.5, hue=0.2, blur=1.0)
    apply_looks(images, [look, Look(2, 5, 8, 8, mirrored=True)])
    inside = torch.zeros(12, 16, dtype=torch.bool)
    inside[2:10, 5:13] = True
    assert (images[:, :, ~inside] == 7).all()
    assert not torch.equal(images[0], before[0])
    assert torch.equal(images[1, :, 2:10, 5:13], before[1, :, 2:10, 5:13].flip(2))


def test_probabilities_and_ranges_are_those_of_the_settings() -> None:
    generator = np.random.Generator(np.random.Philox(0))
    settings = Augment(flip=0.25, blur=0.75, brightness=0.5, hue=0.1)
    looks = [draw_look(generator, settings, top=0, left=0, height=9, width=9) for _ in range(2000)]
    # Three standard deviations of a share of 2000 draws are 0.03.
    assert np.mean([look.mirrored for look in looks]) == pytest.approx(0.25, abs=0.03)
    blurs = [look.blur for look in looks if look.blur is not None]
    assert len(blurs) / 2000 == pytest.approx(0.75, abs=0.03)
    assert (min(blurs), max(blurs)) == pytest.approx((0.1, 2.0), abs=0.02)
    brightness = [look.brightness for look in looks]
    assert (min(brightness), max(brightness)) == pytest.approx((0.5, 1.5), abs=0.02)
    assert {look.contrast for look in looks} == {look.saturation for look in looks} == {None}
    assert max(abs(look.hue) for look in looks) == pytest.approx(0.1, abs=0.01)
