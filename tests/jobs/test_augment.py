"""Augmented crops: image and mask stay aligned, padding is ignored, classes mirror, and no class fills a crop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segctl.config.schema import Augment
from segctl_jobs.augment import augment

FILL = (1, 2, 3)


def draw(image: np.ndarray, mask: np.ndarray, seed: int = 0, **settings: object) -> tuple[torch.Tensor, torch.Tensor]:
    options = {"flip": 0.0, "scale": (1.0, 1.0), "max_class_share": 1.0, **settings}
    pairs = options.pop("flip_pairs", ())
    generator = np.random.Generator(np.random.Philox(seed))
    return augment(image, mask, generator, Augment(**options), ignore_index=255, fill=FILL, flip_pairs=pairs)


def coded(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """An image whose colour says its mask's value: red = 20 * class, in blocks of 8 pixels."""
    rows, columns = np.mgrid[:height, :width] // 8
    mask = ((rows + 2 * columns) % 10).astype(np.uint8)
    image = np.stack([20 * mask, 0 * mask, 0 * mask], axis=-1)
    return image, mask


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7, 2.0])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_image_and_mask_stay_aligned(scale: float, flip: float) -> None:
    image, mask = coded(96, 128)
    for seed in range(5):
        pixels, labels = draw(image, mask, seed, crop=(64, 80), scale=(scale, scale), flip=flip)
        assert pixels.shape == (64, 80, 3)
        assert labels.shape == (64, 80)
        inside = labels != 255
        read = (pixels[..., 0].float() / 20).round()
        # Bilinear interpolation blurs the edges between blocks, nowhere else.
        assert (read == labels)[inside].float().mean() > (0.6 if scale == 0.5 else 0.75)


def test_padding_is_ignored_and_filled_with_the_mean() -> None:
    image, mask = np.full((10, 10, 3), 200, np.uint8), np.ones((10, 10), np.uint8)
    pixels, labels = draw(image, mask, crop=(16, 12))
    padding = labels == 255
    assert int(padding.sum()) == 16 * 12 - 10 * 10
    assert torch.equal(pixels[padding].unique(dim=0), torch.tensor([FILL], dtype=torch.uint8))
    assert (pixels[~padding] == 200).all()
    assert (labels[~padding] == 1).all()


def test_scaling_down_shrinks_what_is_seen_and_pads_the_rest() -> None:
    image, mask = np.full((20, 20, 3), 200, np.uint8), np.ones((20, 20), np.uint8)
    _, labels = draw(image, mask, crop=20, scale=(0.5, 0.5))
    assert int((labels == 1).sum()) == 10 * 10


def test_flip_swaps_paired_classes_only() -> None:
    mask = np.array([[1, 2, 0, 255]], np.uint8)
    image = np.stack([mask * 3] * 3, axis=-1)
    pixels, labels = draw(image, mask, crop=None, flip=1.0, flip_pairs=((1, 2),))
    assert labels.tolist() == [[255, 0, 1, 2]]
    assert pixels[0, :, 0].tolist() == [253, 0, 6, 3]


def test_identity_without_randomness() -> None:
    image, mask = coded(24, 40)
    pixels, labels = draw(image, mask, crop=None)
    assert np.array_equal(pixels.numpy(), image)
    assert np.array_equal(labels.numpy(), mask)


def test_crops_that_one_class_fills_are_drawn_again() -> None:
    mask = np.zeros((64, 256), np.uint8)
    mask[:, 224:] = 1  # an eighth of the picture; few crops see enough of it
    image = np.zeros((64, 256, 3), np.uint8)

    def share_of_mixed(limit: float) -> float:
        crops = [draw(image, mask, seed, crop=64, max_class_share=limit)[1] for seed in range(60)]
        return float(np.mean([0.25 <= float((crop == 1).float().mean()) <= 0.75 for crop in crops]))

    # A crop starts at one of 193 columns; at 176 (a quarter) or later it is mixed enough: 17 of 193. Ten tries find
    # one with probability 1 - (1 - 17/193)^10 = 0.60.
    assert share_of_mixed(1.0) < 0.25
    assert share_of_mixed(0.75) > 0.4


def test_ignored_pixels_do_not_count_as_a_class() -> None:
    mask = np.full((32, 32), 255, np.uint8)
    mask[0, :2] = [0, 1]
    _, labels = draw(np.zeros((32, 32, 3), np.uint8), mask, crop=32, max_class_share=0.75)
    assert (labels == 255).sum() == 32 * 32 - 2


def test_colour_changes_pixels_but_not_labels() -> None:
    image, mask = coded(32, 32)
    for change in ({"brightness": 0.5}, {"contrast": 0.5}, {"hue": 0.3}, {"blur": 1.0}):
        pixels, labels = draw(image, mask, 3, crop=None, **change)
        assert np.array_equal(labels.numpy(), mask)
        assert not np.array_equal(pixels.numpy(), image), change


@pytest.mark.parametrize("ignore_index", [-1, 300])
def test_padding_is_ignored_whatever_the_masks_dtype_can_hold(ignore_index: int) -> None:
    generator = np.random.Generator(np.random.Philox(0))
    settings = Augment(crop=12, scale=(1, 1))
    image, mask = np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.uint8)
    _, labels = augment(image, mask, generator, settings, ignore_index=ignore_index, fill=FILL)
    assert labels.unique().tolist() == sorted([1, ignore_index])


def test_a_picture_smaller_than_the_blur_is_left_sharp() -> None:
    pixels, _ = draw(np.full((2, 9, 3), 7, np.uint8), np.zeros((2, 9), np.uint8), crop=None, blur=1.0)
    assert (pixels == 7).all()


def test_wide_masks_keep_their_dtype() -> None:
    mask = np.full((8, 8), 300, np.int64)
    _, labels = draw(np.zeros((8, 8, 3), np.uint8), mask, crop=12)
    assert labels.dtype == torch.int64
    assert set(labels.unique().tolist()) == {255, 300}
