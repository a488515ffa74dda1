"""Models with a single fault that shows in training, in a file, in memory of another layout or type, or in a graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from toy_models import Deep, Toy


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


def unheard_layer(num_classes: int) -> nn.Module:
    """Multiplies what a layer says by zero."""

    class Fault(Toy):
        def __init__(self, num_classes: int) -> None:
            super().__init__(num_classes)
            self.unheard = nn.Conv2d(3, 8, 3, stride=2, padding=1)

        def features(self, image: Tensor) -> Tensor:
            return super().features(image) + 0 * self.unheard(image)

    return Fault(num_classes)


def gate_that_stays_closed(num_classes: int) -> nn.Module:
    """Has a layer behind a gate that starts at zero and does not learn."""

    class Fault(Toy):
        def __init__(self, num_classes: int) -> None:
            super().__init__(num_classes)
            self.attend = nn.Conv2d(8, 8, 1)
            self.gate = nn.Parameter(torch.zeros(()), requires_grad=False)

        def features(self, image: Tensor) -> Tensor:
            x = super().features(image)
            return x + self.gate * self.attend(x)

    return Fault(num_classes)


def two_zeros_in_a_row(num_classes: int) -> nn.Module:
    """Has a gate that starts at zero before a layer that does: neither ever gets a gradient from the other."""

    class Fault(Toy):
        def __init__(self, num_classes: int) -> None:
            super().__init__(num_classes)
            self.attend = nn.Conv2d(8, 8, 1, bias=False)
            nn.init.zeros_(self.attend.weight)
            self.gate = nn.Parameter(torch.zeros(()))

        def features(self, image: Tensor) -> Tensor:
            x = super().features(image)
            return x + self.gate * self.attend(x)

    return Fault(num_classes)


def divides_by_what_bf16_rounds_away(num_classes: int) -> nn.Module:
    """Adds a thousandth to one, subtracts one and divides by the rest: zero with the 8 bits of bf16."""

    class Fault(Toy):
        def forward(self, image: Tensor) -> Any:
            logits = self.head(self.features(image))
            return self.resize(logits / _a_thousandth(logits), image)

    return Fault(num_classes)


def infinite_gradient_in_bf16(num_classes: int) -> nn.Module:
    """Takes the root of what bf16 rounds to zero, where its slope is infinite."""

    class Fault(Toy):
        def forward(self, image: Tensor) -> Any:
            logits = self.head(self.features(image))
            return self.resize(logits + (logits * 0 + _a_thousandth(logits)).sqrt(), image)

    return Fault(num_classes)


def _a_thousandth(like: Tensor) -> Tensor:
    one = torch.ones_like(like)
    return one + 0.001 - one


def ignores_images_in_bf16(num_classes: int) -> nn.Module:
    """Has a way for few digits that forgets the image, in evaluation."""

    class Fault(Toy):
        def forward(self, image: Tensor) -> Any:
            return super().forward(image * (self.training or not torch.is_autocast_enabled("cpu")))

    return Fault(num_classes)


def learns_nothing_of_images_in_bf16(num_classes: int) -> nn.Module:
    """The same in training, where noise of its own makes logits differ."""

    class Fault(Toy):
        def forward(self, image: Tensor) -> Any:
            heard = not (self.training and torch.is_autocast_enabled("cpu"))
            return super().forward(image if heard else image * 0 + torch.randn_like(image))

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


def _channels_last(image: Tensor) -> bool:
    return image.is_contiguous(memory_format=torch.channels_last)


def ignores_images_in_channels_last(num_classes: int) -> nn.Module:
    """Forgets the image in memory of another layout, in evaluation; deep layers make little of any image at first."""

    class Fault(Deep):
        def forward(self, image: Tensor) -> Any:
            return super().forward(image * (self.training or not _channels_last(image)))

    return Fault(num_classes)


def learns_nothing_of_channels_last(num_classes: int) -> nn.Module:
    """The same in training."""

    class Fault(Toy):
        def forward(self, image: Tensor) -> Any:
            return super().forward(image * (not self.training or not _channels_last(image)))

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


def ignores_images_when_compiled(num_classes: int) -> nn.Module:
    """Has a simpler way for the compiler, which forgets the image."""

    class Fault(Deep):
        def forward(self, image: Tensor) -> Any:
            return super().forward(image * 0 if torch.compiler.is_dynamo_compiling() else image)

    return Fault(num_classes)


def ignores_images_when_exported(num_classes: int) -> nn.Module:
    """Has one for the exported program."""

    class Fault(Deep):
        def forward(self, image: Tensor) -> Any:
            return super().forward(image * 0 if torch.compiler.is_exporting() else image)

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


def normalises_and_more(num_classes: int) -> nn.Module:
    """Has a normalisation of its own class, with the ReLU in it: converted, it is one without."""

    class NormReLU(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(super().forward(x))

    class Fault(Toy):
        def __init__(self, num_classes: int) -> None:
            super().__init__(num_classes)
            self.norm = NormReLU(8)

        def features(self, image: Tensor) -> Tensor:
            features: Tensor = self.norm(self.stem(image))
            return features

    return Fault(num_classes)
