"""Models with a single fault in what they make of images: of any images, or of those of some size or number."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from toy_models import Toy


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


def nan_logits_at_odd_widths(num_classes: int) -> nn.Module:
    """Gives logits of the right shape, but no numbers, where the width is odd."""

    class Fault(Toy):
        def forward(self, image: Tensor) -> Any:
            even = 1 - image.shape[-1] % 2
            return super().forward(image) / torch.tensor(float(even))

    return Fault(num_classes)


def needs_33_pixels(num_classes: int) -> nn.Module:
    """Averages windows of 17 at half the size, of which 32 pixels have none."""

    class Fault(Toy):
        def features(self, image: Tensor) -> Tensor:
            return F.avg_pool2d(super().features(image), 17, stride=1)

    return Fault(num_classes)


def compares_images(num_classes: int) -> nn.Module:
    """Divides by how much the images of a batch differ, which is no number for a single one."""

    class Fault(Toy):
        def forward(self, image: Tensor) -> Any:
            return super().forward(image) / (image - image.mean(0)).square().sum().div(torch.tensor(len(image) - 1.0))

    return Fault(num_classes)


def divides_by_further_classes(num_classes: int) -> nn.Module:
    """Divides by the number of classes beyond two."""

    class Fault(Toy):
        def forward(self, image: Tensor) -> Any:
            return super().forward(image) / torch.tensor(float(self.num_classes - 2))

    return Fault(num_classes)


def ignores_images_in_evaluation(num_classes: int) -> nn.Module:
    """Gives logits of the position alone once it is trained."""

    class Fault(Toy):
        def forward(self, image: Tensor) -> Any:
            return super().forward(image if self.training else image * 0)

    return Fault(num_classes)


def ignores_odd_images(num_classes: int) -> nn.Module:
    """Gives logits of the right shape that say nothing of images with an odd side."""

    class Fault(Toy):
        def forward(self, image: Tensor) -> Any:
            return super().forward(image * (image.shape[-1] % 2 == 0))

    return Fault(num_classes)


def compares_images_in_evaluation(num_classes: int) -> nn.Module:
    """Takes the mean of the batch from each image: nothing is left of one alone."""

    class Fault(Toy):
        def forward(self, image: Tensor) -> Any:
            return super().forward(image if self.training else image - image.mean(0))

    return Fault(num_classes)


def ignores_images_with_many_classes(num_classes: int) -> nn.Module:
    """Looks at images while classes are few."""

    class Fault(Toy):
        def forward(self, image: Tensor) -> Any:
            return super().forward(image * (self.num_classes < 100))

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
