"""Weighting schemes, on counts whose weights can be worked out by hand."""

from __future__ import annotations

import pytest

from segctl.errors import DataError
from segctl_losses.class_weights import from_pixels, resolve

COUNTS = [500, 300, 200, 0]  # shares 0.5, 0.3, 0.2 and a class that does not occur
# Of the classes of Cityscapes in its training masks, unlabelled pixels not counted.
SHARES = [
    *(0.36869696, 0.06084986, 0.22824049, 0.00655399, 0.00877272, 0.01227341, 0.00207795, 0.0055127, 0.15928651),
    *(0.01157818, 0.04018982, 0.01218957, 0.00135122, 0.06994545, 0.00267456, 0.00235192, 0.00232904),
    *(0.00098658, 0.00413907),
]


def test_inverse_frequency() -> None:
    weights = from_pixels("inverse_frequency", COUNTS)

    assert weights == pytest.approx([1 / 1.5, 1 / 0.9, 1 / 0.6, 0])
    # Each class that occurs has the same weight in all: a third of the pixels' number.
    assert [weight * count for weight, count in zip(weights, COUNTS, strict=True)] == pytest.approx(
        [1000 / 3] * 3 + [0]
    )


def test_median_frequency() -> None:
    assert from_pixels("median_frequency", COUNTS) == pytest.approx([0.6, 1.0, 1.5, 0])
    # Of an even number of classes the median lies between the two in the middle: (0.2 + 0.3) / 2.
    assert from_pixels("median_frequency", [40, 30, 20, 10]) == pytest.approx([0.625, 0.25 / 0.3, 1.25, 2.5])


def test_enet() -> None:
    # 1 / ln 1.52, 1 / ln 1.32, 1 / ln 1.22, and 1 / ln 1.02, the upper bound of about 50 that the paper states.
    assert from_pixels("enet", COUNTS) == pytest.approx([2.38829, 3.60189, 5.02889, 50.49835], rel=1e-5)


def test_erfnet() -> None:
    # 1 / ln 1.6, 1 / ln 1.4, 1 / ln 1.3 and 1 / ln 1.1.
    assert from_pixels("erfnet", COUNTS) == pytest.approx([2.12764, 2.97201, 3.81148, 10.49206], rel=1e-5)


def test_published_erfnet_weights_follow_from_the_shares() -> None:
    """Those of ERFNet's and LEDNet's releases are of 20 classes, the last being the 11.46 % that are unlabelled."""
    published = [
        *(2.81492, 6.98500, 3.78904, 9.94281, 9.77021, 9.51109, 10.31136, 10.02646, 4.63230, 9.56081, 7.86982),
        *(9.51687, 10.37373, 6.66160, 10.26049, 10.28789, 10.28980, 10.40536, 10.13810),
    ]

    weights = from_pixels("erfnet", [*(round(share * 0.8854e9) for share in SHARES), round(0.1146e9)])

    assert weights[:19] == pytest.approx(published, rel=1e-3)


def test_the_weights_that_cgnet_is_trained_with_are_of_this_scheme() -> None:
    """mmsegmentation's constants. CGNet's release counts train and val together, hence the tolerance."""
    published = [
        *(2.5959933, 6.7415504, 3.5354059, 9.8663225, 9.690899, 9.369352, 10.289121, 9.953208, 4.3097677, 9.490387),
        *(7.674431, 9.396905, 10.347791, 6.3927646, 10.226669, 10.241062, 10.280587, 10.396974, 10.055647),
    ]

    assert from_pixels("erfnet", [round(share * 1e9) for share in SHARES]) == pytest.approx(published, rel=0.007)


def test_published_enet_weights_follow_from_the_shares() -> None:
    """Of Cityscapes: the shares of its classes in the training masks, and the weights ENet is trained with."""
    published = [
        *(3.0454, 12.862, 4.5099, 38.157, 35.253, 31.483, 45.792, 39.694, 6.0639, 32.165, 17.109, 31.563, 47.334),
        *(11.611, 44.600, 45.237, 45.283, 48.148, 41.925),
    ]

    weights = from_pixels("enet", [round(share * 1e9) for share in SHARES])

    assert weights == pytest.approx(published, rel=1e-3)


def test_masks_without_a_labelled_pixel_are_an_error_that_says_so() -> None:
    with pytest.raises(DataError, match="enet needs labelled pixels"):
        resolve("enet", 2, lambda: [0, 0])


def test_counts_of_other_classes_are_refused() -> None:
    with pytest.raises(DataError, match="counted for 3 classes, but there are 2"):
        resolve("enet", 2, lambda: [1, 2, 3])
