"""Models for the tests of the conformance kit: good ones, and ones with a single fault."""

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


# ---- faults, each in one place


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


def too_small_logits(num_classes: int) -> nn.Module:
    """Leaves the logits at half the size."""

    class Fault(Toy):
        def resize(self, logits: Tensor, image: Tensor) -> Tensor:
            return logits

    return Fault(num_classes)


def unnamed_logits(num_classes: int) -> nn.Module:
    """Calls the logits otherwise."""

    class Fault(Toy):
        def forward(self, image: Tensor) -> Any:
            return {"logits": super().forward(image)}

    return Fault(num_classes)


def a_tuple(num_classes: int) -> nn.Module:
    """Returns a tuple, as older projects do."""

    class Fault(Toy):
        def forward(self, image: Tensor) -> Any:
            return (super().forward(image),)

    return Fault(num_classes)


def class_map(num_classes: int) -> nn.Module:
    """Returns classes for logits."""

    class Fault(Toy):
        def forward(self, image: Tensor) -> Any:
            return super().forward(image).long()

    return Fault(num_classes)


def nan_logits(num_classes: int) -> nn.Module:
    """Divides zero by zero, in training only."""

    class Fault(Toy):
        def forward(self, image: Tensor) -> Any:
            logits = super().forward(image)
            return logits * (0 * logits / 0) if self.training else logits

    return Fault(num_classes)


def writes_to_its_input(num_classes: int) -> nn.Module:
    """Normalises the images in place."""

    class Fault(Toy):
        def forward(self, image: Tensor) -> Any:
            return super().forward(image.mul_(0.5))

    return Fault(num_classes)


def always_drops_out(num_classes: int) -> nn.Module:
    """Forgets that dropout is for training."""

    class Fault(Toy):
        def features(self, image: Tensor) -> Tensor:
            return F.dropout(super().features(image), 0.5, training=True)

    return Fault(num_classes)


def remembers_forward_passes(num_classes: int) -> nn.Module:
    """Has a buffer that every forward pass changes."""

    class Fault(Toy):
        def __init__(self, num_classes: int) -> None:
            super().__init__(num_classes)
            self.register_buffer("passes", torch.zeros(()))

        def forward(self, image: Tensor) -> Any:
            self.passes += 1
            return super().forward(image) + self.passes

    return Fault(num_classes)


def only_even_sizes(num_classes: int) -> nn.Module:
    """Doubles what was halved: an odd side comes back one larger."""

    class Fault(Toy):
        def resize(self, logits: Tensor, image: Tensor) -> Tensor:
            return F.interpolate(logits, scale_factor=2, mode="bilinear")

    return Fault(num_classes)


def only_square_images(num_classes: int) -> nn.Module:
    """Fails where width and height differ."""

    class Fault(Toy):
        def forward(self, image: Tensor) -> Any:
            height, width = image.shape[-2:]
            return super().forward(image) + image.mean(1, keepdim=True).reshape(-1, 1, width, height)

    return Fault(num_classes)


def batch_norm_on_one_pixel(num_classes: int) -> nn.Module:
    """Normalises a pooled pixel, which one image alone cannot in training."""

    class Fault(Toy):
        def __init__(self, num_classes: int) -> None:
            super().__init__(num_classes)
            self.pooled_norm = nn.BatchNorm2d(8)

        def features(self, image: Tensor) -> Tensor:
            features = super().features(image)
            return features + self.pooled_norm(features.mean((2, 3), keepdim=True))

    return Fault(num_classes)


def squeezes_the_batch(num_classes: int) -> nn.Module:
    """Loses the batch dimension of one image."""

    class Fault(Toy):
        def forward(self, image: Tensor) -> Any:
            return super().forward(image).squeeze(0)

    return Fault(num_classes)


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


def unused_parameter(num_classes: int) -> nn.Module:
    """Holds a layer that no image passes."""

    class Fault(Toy):
        def __init__(self, num_classes: int) -> None:
            super().__init__(num_classes)
            self.fc = nn.Linear(8, 1000)

    return Fault(num_classes)


def detached_stem(num_classes: int) -> nn.Module:
    """Cuts the gradient."""

    class Fault(Toy):
        def features(self, image: Tensor) -> Tensor:
            return super().features(image).detach()

    return Fault(num_classes)


def infinite_gradient(num_classes: int) -> nn.Module:
    """The square root of zero has an infinite slope."""

    class Fault(Toy):
        def __init__(self, num_classes: int) -> None:
            super().__init__(num_classes)
            self.shift = nn.Parameter(torch.zeros(()))

        def forward(self, image: Tensor) -> Any:
            return super().forward(image) + self.shift.sqrt()

    return Fault(num_classes)


def only_float32(num_classes: int) -> nn.Module:
    """Adds what autocast made bf16 to a float32 tensor of its own, in a function that wants one type."""

    class Fault(Toy):
        def features(self, image: Tensor) -> Tensor:
            features = super().features(image)
            start = torch.zeros(features.shape)
            return start.index_add(1, torch.arange(features.shape[1]), features)

    return Fault(num_classes)


def holds_layers_in_a_list(num_classes: int) -> nn.Module:
    """Has a layer that is not a part of the state dict."""

    class Fault(Toy):
        def __init__(self, num_classes: int) -> None:
            super().__init__(num_classes)
            self.layers = [nn.Conv2d(3, 3, 1)]

        def forward(self, image: Tensor) -> Any:
            return super().forward(self.layers[0](image))

    return Fault(num_classes)


def saves_a_number(num_classes: int) -> nn.Module:
    """Puts more than tensors into the state dict."""

    class Fault(Toy):
        def get_extra_state(self) -> Any:
            return {"classes": self.num_classes}

        def set_extra_state(self, state: Any) -> None:
            self.num_classes = state["classes"]

    return Fault(num_classes)


def counts_on_contiguous_memory(num_classes: int) -> nn.Module:
    """Views features as if channels came first."""

    class Fault(Toy):
        def features(self, image: Tensor) -> Tensor:
            features = super().features(image)
            return features.view(features.numel()).view(features.shape)

    return Fault(num_classes)


def misreads_channels_last(num_classes: int) -> nn.Module:
    """Reads memory in its order, whatever the strides say."""

    class Fault(Toy):
        def features(self, image: Tensor) -> Tensor:
            features = super().features(image)
            return features.as_strided(features.shape, torch.empty(features.shape).stride())

    return Fault(num_classes)


def counts_on_contiguous_gradients(num_classes: int) -> nn.Module:
    """Views gradients as if channels came first."""

    class Identity(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> Tensor:
            return gradient.view(gradient.numel()).view(gradient.shape)

    class Fault(Toy):
        def features(self, image: Tensor) -> Tensor:
            features: Tensor = Identity.apply(super().features(image))
            return features

    return Fault(num_classes)


def hides_from_the_compiler(num_classes: int) -> nn.Module:
    """Has a part that is run by Python, between two graphs."""

    class Fault(Toy):
        @torch.compiler.disable
        def features(self, image: Tensor) -> Tensor:
            return super().features(image)

    return Fault(num_classes)


def hides_its_training(num_classes: int) -> nn.Module:
    """Has such a part in training only."""

    class Fault(Toy):
        def features(self, image: Tensor) -> Tensor:
            features = super().features(image)
            return self.perturbed(features) if self.training else features

        @torch.compiler.disable
        def perturbed(self, features: Tensor) -> Tensor:
            return features + 0.01

    return Fault(num_classes)


def made_for_one_width(num_classes: int) -> nn.Module:
    """Makes a number of the width, which is one for all images once the model is exported."""

    class Fault(Toy):
        def forward(self, image: Tensor) -> Any:
            return super().forward(image) + torch.linspace(0, 1, int(image.shape[-1]))

    return Fault(num_classes)


def normalises_twice_held(num_classes: int) -> nn.Module:
    """Keeps a second reference to its norm layer, which is the one that runs."""

    class Fault(Toy):
        def __init__(self, num_classes: int) -> None:
            super().__init__(num_classes)
            self.layers = [self.norm]

        def features(self, image: Tensor) -> Tensor:
            return F.relu(self.layers[0](self.stem(image)))

    return Fault(num_classes)


def normalises_by_hand(num_classes: int) -> nn.Module:
    """Calls the function instead of holding the layer."""

    class Fault(Toy):
        def features(self, image: Tensor) -> Tensor:
            norm, x = self.norm, self.stem(image)
            statistics = norm.running_mean, norm.running_var
            return F.relu(F.batch_norm(x, *statistics, norm.weight, norm.bias, training=self.training))

    return Fault(num_classes)
