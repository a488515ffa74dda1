"""Tries a loss on the contract: finite, with a gradient, blind to ignored pixels, in float32 under autocast."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from segctl import registry
from segctl.config.schema import Plugin
from segctl.conformance.contract import Factory, context_of, signature_steps
from segctl.conformance.report import BreachError, Check, Step, run_steps
from segctl.conformance.tensors import IGNORE_INDEX, distance, labels, named, total
from segctl.errors import listing
from segctl.plugin import loss_outputs

Outputs = Callable[[Tensor], Any]

CLASSES = 5
SIZE = (33, 50)


def check_loss(
    factory: Factory, *, options: Mapping[str, Any] | None = None, outputs: Outputs | None = None
) -> tuple[Check, ...]:
    """Tries a loss factory on everything that segctl relies on.

    Args:
        factory: ``(*, options) -> (outputs, target) -> scalar or dict of scalars``, as an entry point of
            ``segctl.losses`` names it; it may take `num_classes`, `ignore_index`, `class_pixels` and `create_loss` too.
        options: Options to build it with instead of its defaults.
        outputs: Makes what its model returns from logits (N, C, H, W), for a loss that needs more than these; by
            default what it declares with `segctl.plugin.loss`. Without either it is tried on the bare tensor and on a
            dict with an auxiliary map beside it.

    Returns:
        One result per check, in the order in which they ran; one that builds on a failed check is reported as skipped.
    """
    outputs = outputs or loss_outputs(factory)
    forms = {"the model's outputs": outputs} if outputs else {"a tensor": _bare, "a dict": _with_auxiliary}
    with torch.random.fork_rng(devices=[]):
        return run_steps(_seeded(step) for step in _LossChecks(factory, dict(options or {}), forms).steps())


def _seeded(step: Step) -> Step:
    def run() -> str | None:
        torch.manual_seed(0)
        return step.run()

    return Step(step.name, run, step.gate)


def _bare(logits: Tensor) -> Tensor:
    return logits


def _with_auxiliary(logits: Tensor) -> dict[str, Tensor]:
    return {"out": logits, "aux": 0.5 * logits}


class _LossChecks:
    def __init__(self, factory: Factory, options: dict[str, Any], forms: Mapping[str, Outputs]) -> None:
        self.factory = factory
        self.options = options
        self.forms = forms
        self.loss: Callable[[Any, Tensor], Any] = lambda outputs, target: None

    def steps(self) -> Iterator[Step]:
        yield from signature_steps(self.factory, "loss")
        yield Step("builds", self.builds, gate=True)
        yield Step("scalar terms", self.scalar_terms, gate=True)
        yield Step("inputs unchanged", self.inputs_unchanged, gate=True)
        yield Step("repeatable", self.repeatable, gate=True)
        yield Step("gradient", self.gradient, gate=True)
        yield Step("direction", self.direction)
        yield Step("all ignored", self.all_ignored)
        yield Step("absent classes", self.absent_classes)
        yield Step("ignored pixels", self.ignored_pixels)
        yield Step("single image", self.single_image)
        yield Step("autocast", self.autocast)

    def build(self, ignore_index: int = IGNORE_INDEX) -> Callable[[Any, Tensor], Any]:
        facts: dict[str, Any] = {
            "num_classes": CLASSES,
            "ignore_index": ignore_index,
            "class_pixels": lambda: [100, 50, 10, 5, 1],
        }

        def create_loss(name: str, options: Mapping[str, Any] | None = None) -> Any:
            return registry.create_loss(Plugin(name=name, options=dict(options or {})), **facts)

        context = context_of(self.factory, {**facts, "create_loss": create_loss})
        loss = self.factory(**context, **self.options)
        if not callable(loss):
            raise BreachError(f"the factory returned {type(loss).__name__}, which cannot be called")
        return loss  # type: ignore[no-any-return]

    def builds(self) -> None:
        self.loss = self.build()

    def scalar_terms(self) -> str:
        shown = []
        for form, outputs in self.forms.items():
            terms = self.loss(outputs(_logits()), _labels())
            for name, term in _terms(terms).items():
                if not isinstance(term, Tensor) or term.numel() != 1 or not term.is_floating_point():
                    raise BreachError(f"on {form}, {name} is {_described(term)}, not a scalar tensor of floating point")
            if not torch.isfinite(total(terms)):
                raise BreachError(f"on {form}, the loss of random logits is {total(terms).item():g}")
            shown.append(", ".join(f"{name} {float(term):.3f}" for name, term in _terms(terms).items()))
        return "; ".join(shown)

    def inputs_unchanged(self) -> None:
        for form, outputs in self.forms.items():
            given, target = outputs(_logits()), _labels()
            before = {name: value.clone() for name, value in named(given).items()}
            target_before = target.clone()
            self.loss(given, target)
            if list(named(given)) != list(before):
                raise BreachError(f"the loss changes the dict of outputs from {listing(before)} to {listing(given)}")
            if not torch.equal(target, target_before):
                raise BreachError(f"on {form}, the loss modifies its target in place")
            changed = [name for name, value in named(given).items() if not torch.equal(value, before[name])]
            if changed:
                raise BreachError(f"on {form}, the loss modifies its outputs in place: {listing(changed)}")

    def repeatable(self) -> None:
        for form, outputs in self.forms.items():
            logits, target = _logits(), _labels()
            first, second = (total(self.loss(outputs(logits.clone()), target.clone())).item() for _ in range(2))
            if first != second:
                raise BreachError(f"on {form}, the same inputs give {first:g}, then {second:g}")

    def gradient(self) -> None:
        """Of each output on its own: they come from different heads, and NaN for one of them spoils that head."""
        for form, outputs in self.forms.items():
            given = outputs(_logits())
            leaves = {name: value.detach().requires_grad_() for name, value in named(given).items()}
            value = total(self.loss(leaves if isinstance(given, Mapping) else leaves["out"], _labels()))
            if not value.requires_grad:
                raise BreachError(f"on {form}, the logits get no gradient")
            value.backward()
            gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
            broken = [name for name, gradient in gradients.items() if not gradient.isfinite().all()]
            if broken:
                raise BreachError(f"on {form}, the gradient of {listing(broken)} is not finite")
            if not any(gradient.any() for gradient in gradients.values()):
                raise BreachError(f"on {form}, the gradient of the logits is zero")

    def direction(self) -> None:
        """Logits that say the truth must cost less than ones that say another class."""
        target = _labels()
        shown = torch.where(target == IGNORE_INDEX, 0, target)
        right, wrong = (
            4.0 * torch.nn.functional.one_hot(classes, CLASSES).movedim(-1, 1).float()
            for classes in (shown, (shown + 1) % CLASSES)
        )
        for outputs in self.forms.values():
            low, high = (total(self.loss(outputs(logits), target)).item() for logits in (right, wrong))
            if not low < high:
                raise BreachError(f"right predictions cost {low:g}, wrong ones {high:g}; the loss is to be minimised")

    def all_ignored(self) -> None:
        target = torch.full((2, *SIZE), IGNORE_INDEX)
        for form, outputs in self.forms.items():
            value, gradient = self.value_and_gradient(outputs, _logits(), target)
            if value.item() != 0:
                raise BreachError(f"on {form}, a batch without a labelled pixel costs {value.item():g} instead of 0")
            if gradient is None or gradient.isnan().any() or gradient.any():
                state = "none at all" if gradient is None else "NaN" if gradient.isnan().any() else "not zero"
                raise BreachError(
                    f"on {form}, the gradient of a batch without a labelled pixel is {state} instead of 0"
                )

    def absent_classes(self) -> None:
        for present in (0, CLASSES - 1):
            for form, outputs in self.forms.items():
                value, gradient = self.value_and_gradient(outputs, _logits(), torch.full((2, *SIZE), present))
                if not value.isfinite() or gradient is None or not gradient.isfinite().all():
                    raise BreachError(f"on {form}, the loss is not finite where only class {present} occurs")

    def ignored_pixels(self) -> None:
        for ignore_index in (IGNORE_INDEX, -1, CLASSES):
            target = _labels()
            ignored = target == IGNORE_INDEX
            self._ignored_pixels(self.build(ignore_index), torch.where(ignored, ignore_index, target), ignored)

    def _ignored_pixels(self, loss: Callable[[Any, Tensor], Any], target: Tensor, ignored: Tensor) -> None:
        logits = _logits()
        other = torch.where(ignored[:, None], 10 * _logits(), logits)
        where = f"with ignore_index {int(target[ignored][0])}"
        for form, outputs in self.forms.items():
            try:
                values = [total(loss(outputs(each), target)).item() for each in (logits, other)]
            except (IndexError, RuntimeError) as error:
                raise BreachError(
                    f"{where}, on {form}: {error}; the loss must take ignore_index and mind it"
                ) from error
            if abs(values[0] - values[1]) > 1e-5 * max(1.0, abs(values[0])):
                raise BreachError(
                    f"{where}, on {form}, the logits of ignored pixels change the loss "
                    f"from {values[0]:g} to {values[1]:g}"
                )

    def single_image(self) -> None:
        for form, outputs in self.forms.items():
            value = total(self.loss(outputs(_logits(count=1)), _labels(count=1)))
            if not value.isfinite():
                raise BreachError(f"on {form}, the loss of one image is {value.item():g}")

    def autocast(self) -> None:
        """The logits come in bf16; what is computed from them must be what float32 gives from the same numbers.

        On few pixels, where rounding each would not average out, and on many, where a sum in bf16 would stop growing.
        """
        for size in ((3, 4), SIZE):
            for form, outputs in self.forms.items():
                self._autocast(form, outputs, _logits(size=size).bfloat16(), _labels(size=size))

    def _autocast(self, form: str, outputs: Outputs, logits: Tensor, target: Tensor) -> None:
        expected = total(self.loss(outputs(logits.float()), target))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = total(self.loss(outputs(logits), target))
        if value.dtype is not torch.float32:
            raise BreachError(f"on {form}, the loss is {value.dtype} under autocast instead of float32")
        if distance(value, expected) > 1e-4 * max(1.0, abs(expected.item())):
            raise BreachError(
                f"on {form}, the loss of bf16 logits under autocast is {value.item():.6g} instead of "
                f"{expected.item():.6g}: call .float() on the logits first"
            )

    def value_and_gradient(self, outputs: Outputs, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor | None]:
        logits.requires_grad_()
        value = total(self.loss(outputs(logits), target))
        if value.requires_grad:
            value.backward()
        return value.detach(), logits.grad


def _logits(count: int = 2, size: tuple[int, int] = SIZE) -> Tensor:
    return 3 * torch.randn(count, CLASSES, *size)


def _labels(count: int = 2, size: tuple[int, int] = SIZE) -> Tensor:
    return labels(size, CLASSES, count=count)


def _terms(terms: Any) -> dict[str, Any]:
    return (
        {f"the term {name!r}": term for name, term in terms.items()}
        if isinstance(terms, Mapping)
        else {"the loss": terms}
    )


def _described(term: Any) -> str:
    return (
        f"a tensor of shape {tuple(term.shape)}, {term.dtype}"
        if isinstance(term, Tensor)
        else f"a {type(term).__name__}"
    )
