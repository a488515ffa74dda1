"""Losses for the tests of the conformance kit: good ones, and ones with a single fault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from segctl.plugin import loss


def main(outputs: Any) -> Tensor:
    logits: Tensor = outputs["out"] if isinstance(outputs, Mapping) else outputs
    return logits


class Good:
    """Cross entropy of the main logits.

    Args:
        num_classes: Number of classes.
        ignore_index: Ignored target value.
        factor: Multiplies the loss.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255, *, factor: float = 1.0) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.factor = factor

    def __call__(self, outputs: Any, target: Tensor) -> Any:
        return self.factor * self.mean(main(outputs).float(), target)

    def mean(self, logits: Tensor, target: Tensor) -> Tensor:
        total = F.cross_entropy(logits, target, ignore_index=self.ignore_index, reduction="sum")
        return total / (target != self.ignore_index).sum().clamp(min=1)


def good_function(num_classes: int, ignore_index: int) -> Any:
    """A function that makes a function, whose result is a dict of terms."""
    loss = Good(num_classes, ignore_index)
    return lambda outputs, target: {"main": loss(outputs, target), "decay": 0.001 * loss(outputs, target) ** 2}


class NeedsSceneLogits(Good):
    """Cannot do without a further output of its model."""

    def __call__(self, outputs: Any, target: Tensor) -> Any:
        if not isinstance(outputs, Mapping) or "se" not in outputs:
            raise KeyError("se")
        return super().__call__(outputs["out"], target) + 0.0 * outputs["se"].sum()


@loss(outputs=lambda logits: {"out": logits, "se": logits.mean((2, 3))})
class SaysWhatItNeeds(NeedsSceneLogits):
    """Declares how the outputs of its model look."""


def half_cross_entropy(create_loss: Any) -> Any:
    """Made of another plugin."""
    whole = create_loss("cross_entropy", {"aux_weight": 0.0})
    return lambda outputs, target: 0.5 * whole(outputs, target)["out"]


# ---- faults, each in one place


class SwallowsOptions(Good):
    """Takes whatever it is given."""

    def __init__(self, num_classes: int, ignore_index: int = 255, **options: Any) -> None:
        super().__init__(num_classes, ignore_index)


class NeedsAnOption(Good):
    """Cannot be made by its name alone.

    Args:
        smooth: Not said.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255, smooth: float = 1.0) -> None:
        super().__init__(num_classes, ignore_index)


class UndocumentedOption(Good):
    """Says nothing of its option."""

    def __init__(self, num_classes: int, ignore_index: int = 255, *, smooth: float = 1.0) -> None:
        super().__init__(num_classes, ignore_index)


def cannot_be_called(num_classes: int) -> Any:
    """Makes a number."""
    return 1.0


class OneValuePerPixel(Good):
    """Forgets to take the mean."""

    def mean(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits, target, ignore_index=self.ignore_index, reduction="none")


class OutOfTheGraph(Good):
    """Returns a number."""

    def __call__(self, outputs: Any, target: Tensor) -> Any:
        return float(super().__call__(outputs, target))


class LogOfSoftmax(Good):
    """Takes the logarithm of probabilities that became zero."""

    def mean(self, logits: Tensor, target: Tensor) -> Tensor:
        probabilities = (1000 * logits).softmax(1)
        return super().mean(probabilities.log().nan_to_num(neginf=float("-inf")), target) - probabilities.log().min()


class Detached(Good):
    """Loses the gradient."""

    def mean(self, logits: Tensor, target: Tensor) -> Tensor:
        return super().mean(logits.detach(), target)


class SteepAuxiliary(Good):
    """Adds the root of an auxiliary term that is zero, where the root's slope is infinite."""

    def __call__(self, outputs: Any, target: Tensor) -> Any:
        value = super().__call__(outputs, target)
        if isinstance(outputs, Mapping) and "aux" in outputs:
            value = value + (0 * outputs["aux"].sum()).sqrt()
        return value


class Reversed(Good):
    """Is maximised."""

    def mean(self, logits: Tensor, target: Tensor) -> Tensor:
        return -super().mean(logits, target)


class NanWithoutLabels(Good):
    """Divides by the number of labelled pixels, also where there are none."""

    def mean(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits, target, ignore_index=self.ignore_index)


class ConstantWithoutLabels(Good):
    """Gives zero without labels, but cuts it off the graph."""

    def mean(self, logits: Tensor, target: Tensor) -> Tensor:
        return super().mean(logits, target) if (target != self.ignore_index).any() else torch.zeros(())


class NanForAbsentClasses(Good):
    """Divides by the number of pixels of each class."""

    def mean(self, logits: Tensor, target: Tensor) -> Tensor:
        valid = target != self.ignore_index
        counts = torch.bincount(target[valid], minlength=self.num_classes).float()
        balance = (counts / counts).sum() / self.num_classes if valid.any() else 1.0
        return super().mean(logits, target) * balance


class CountsIgnoredPixels(Good):
    """Adds the ignored pixels' own confidence."""

    def mean(self, logits: Tensor, target: Tensor) -> Tensor:
        some = (target != self.ignore_index).any()
        return super().mean(logits, target) + 0.01 * logits.softmax(1).amax(1).mean() * some


class HardWired255(Good):
    """Knows one ignored value only."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, 255)


class ClassesBelowTheIgnored(Good):
    """Takes the value after the last class for one more class."""

    def mean(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.ignore_index == self.num_classes:
            more = F.pad(logits, (0, 0, 0, 0, 0, 1))
            return F.cross_entropy(more, target)
        return super().mean(logits, target)


class NeedsTwoImages(Good):
    """Adds the variance over the images of a batch, of which there may be one."""

    def mean(self, logits: Tensor, target: Tensor) -> Tensor:
        means = logits.mean((1, 2, 3)) * (target != self.ignore_index).any()
        return super().mean(logits, target) + 0 * ((means - means.mean()) ** 2).sum() / (len(means) - 1)


class ScalesInPlace(Good):
    """Divides the logits by a temperature, where they are."""

    def __call__(self, outputs: Any, target: Tensor) -> Any:
        with torch.no_grad():
            main(outputs).mul_(0.5)
        return super().__call__(outputs, target)


class ScalesAuxiliaryInPlace(Good):
    """Weighs the auxiliary map, where it is."""

    def __call__(self, outputs: Any, target: Tensor) -> Any:
        if isinstance(outputs, Mapping) and "aux" in outputs:
            with torch.no_grad():
                outputs["aux"].mul_(0.4)
        return super().__call__(outputs, target)


class RelabelsInPlace(Good):
    """Turns ignored pixels into a class, where they are."""

    def __call__(self, outputs: Any, target: Tensor) -> Any:
        value = super().__call__(outputs, target)
        target[target == self.ignore_index] = 0
        return value


class PopsOutputs(Good):
    """Takes the auxiliary map out of the dict."""

    def __call__(self, outputs: Any, target: Tensor) -> Any:
        if isinstance(outputs, dict):
            outputs.pop("aux", None)
        return super().__call__(outputs, target)


class RunningMean(Good):
    """Divides by a running mean of its values."""

    calls = 0

    def __call__(self, outputs: Any, target: Tensor) -> Any:
        self.calls += 1
        return super().__call__(outputs, target) * (1 + self.calls / 1000)


class InHalfPrecision(Good):
    """Computes in whatever type the logits have."""

    def __call__(self, outputs: Any, target: Tensor) -> Any:
        logits = main(outputs)
        shifted = logits - logits.logsumexp(1, keepdim=True).to(logits.dtype)
        return self.mean(shifted.float(), target)


class ReturnsHalfPrecision(Good):
    """Returns the type that the logits had."""

    def __call__(self, outputs: Any, target: Tensor) -> Any:
        return super().__call__(outputs, target).to(main(outputs).dtype)
