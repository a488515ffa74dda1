"""Models for the tests of the conformance kit: good ones, and factories with a single fault."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segctl.plugin import model


class Toy(nn.Module):
    """A convolution at half the size, a normalisation, a classifier, and back to the image's size."""

    def __init__(self, num_classes: int, width: int = 8) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Conv2d(width, num_classes, 1)

    def features(self, image: Tensor) -> Tensor:
        return F.relu(self.norm(self.stem(image)))

    def resize(self, logits: Tensor, image: Tensor) -> Tensor:
        return F.interpolate(logits, size=image.shape[-2:], mode="bilinear")

    def forward(self, image: Tensor) -> Any:
        return self.resize(self.head(self.features(image)), image)


def good(num_classes: int, *, width: int = 8) -> nn.Module:
    """A model that keeps the contract.

    Args:
        num_classes: Number of classes.
        width: Channels of its one layer.
    """
    return Toy(num_classes, width)


@model(backbone=("stem.", "norm."))
def good_with_auxiliary_head(num_classes: int) -> nn.Module:
    """Returns a dict, has no batch normalisation in the head, drops out in training and freezes a parameter."""

    class Auxiliary(Toy):
        def __init__(self) -> None:
            super().__init__(num_classes)
            self.aux = nn.Conv2d(8, num_classes, 1)
            self.stem.weight.requires_grad_(False)

        def forward(self, image: Tensor) -> dict[str, Tensor]:
            features = F.dropout(self.features(image), 0.1, self.training)
            main = self.resize(self.head(features), image)
            return {"out": main, "aux": self.aux(features)} if self.training else {"out": main}

    return Auxiliary()


def good_at_a_64th_of_the_size(num_classes: int) -> nn.Module:
    """Comes to one pixel for images of 64, which is no fault, but more than `torch.export` has in one program."""

    class Deep(Toy):
        def __init__(self) -> None:
            super().__init__(num_classes)
            self.deep = nn.Conv2d(8, 8, 3, stride=32, padding=1)

        def features(self, image: Tensor) -> Tensor:
            return self.deep(super().features(image))

    return Deep()


class Deep(Toy):
    """More layers, initialised as PyTorch does: through the statistics they are made with, next to nothing passes."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        layers = [nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()) for _ in range(12)]
        self.layers = nn.Sequential(*layers)

    def features(self, image: Tensor) -> Tensor:
        features: Tensor = self.layers(super().features(image))
        return features


def good_but_deep(num_classes: int) -> nn.Module:
    """Is much the same for all images until its normalisations have seen some."""
    return Deep(num_classes)


def good_with_a_classifier_of_zeros(num_classes: int) -> nn.Module:
    """Says the same of all images until its first step."""
    toy = Toy(num_classes)
    nn.init.zeros_(toy.head.weight)
    return toy


def good_behind_closed_gates(num_classes: int) -> nn.Module:
    """Has a layer behind a gate behind a gate, both zero at first: it learns from the third step on."""

    class Gated(Toy):
        def __init__(self) -> None:
            super().__init__(num_classes)
            self.attend = nn.Conv2d(8, 8, 1)
            self.inner, self.outer = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(()))

        def features(self, image: Tensor) -> Tensor:
            x = super().features(image)
            return x + self.outer * (x.tanh() + self.inner * self.attend(x))

    return Gated()


def good_with_a_shift_that_cancels(num_classes: int) -> nn.Module:
    """Adds to features what their normalisation takes away again: no gradient but for what is left by rounding.

    That may be nothing at all, as it is in LEDNet now and then; here it always is.
    """

    class Shifted(Toy):
        def __init__(self) -> None:
            super().__init__(num_classes)
            self.shift = nn.Parameter(torch.ones(8, 1, 1))
            self.shift.register_hook(lambda gradient: torch.where(gradient.abs() < 1e-6, 0, gradient))

        def features(self, image: Tensor) -> Tensor:
            return F.relu(self.norm(self.stem(image) + self.shift))

    return Shifted()


# ---- faults of the factory itself, each in one place


def swallows_options(num_classes: int, **options: Any) -> nn.Module:
    """Takes whatever it is given."""
    return Toy(num_classes)


def takes_options_by_position(num_classes: int, width: int = 8) -> nn.Module:
    """Has an option that is not keyword-only.

    Args:
        width: Channels.
    """
    return Toy(num_classes, width)


def knows_its_classes() -> nn.Module:
    """Has no num_classes."""
    return Toy(19)


def needs_an_option(num_classes: int, *, width: int) -> nn.Module:
    """Cannot be made by its name alone.

    Args:
        width: Channels.
    """
    return Toy(num_classes, width)


def undocumented_option(num_classes: int, *, width: int = 8) -> nn.Module:
    """Says nothing of its option."""
    return Toy(num_classes, width)


def untyped_option(num_classes: int, *, width=8) -> nn.Module:  # type: ignore[no-untyped-def]
    """Says not what its option is.

    Args:
        width: Channels.
    """
    return Toy(num_classes, width)


def undocumented(num_classes: int) -> nn.Module:
    return Toy(num_classes)


def cannot_be_built(num_classes: int) -> nn.Module:
    """Fails when it is made."""
    raise RuntimeError("no such layer")


def not_a_module(num_classes: int) -> Any:
    """Is a function."""
    return lambda image: image


def made_for_cityscapes(num_classes: int) -> nn.Module:
    """Always has 19 classes."""
    return Toy(19)


@model(backbone=("backbone.", "norm."))
def misnamed_backbone(num_classes: int) -> nn.Module:
    """Declares a backbone that is not there."""
    return Toy(num_classes)


@model(loss="no_such_loss")
def unknown_loss(num_classes: int) -> nn.Module:
    """Declares a loss that nobody offers."""
    return Toy(num_classes)
