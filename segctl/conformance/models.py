"""Tries a model on the contract: any image size, any number of classes, one image or many, every arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from segctl import registry
from segctl.config.schema import Plugin
from segctl.conformance import tracing
from segctl.conformance.batch_norm import BatchNormCalls, calibrate
from segctl.conformance.contract import Factory, signature_steps
from segctl.conformance.gradients import require_gradients, wake
from segctl.conformance.report import BreachError, Check, Step, describe_exception, run_steps
from segctl.conformance.tensors import (
    IGNORE_INDEX,
    differ,
    distance,
    images,
    labels,
    logits_of,
    named,
    of_different_brightness,
    some,
    tell_images_apart,
    total,
)
from segctl.errors import listing
from segctl.plugin import SMALLEST_SIDE, ModelTraits, model_traits

CLASSES = 19
OTHER_CLASS_COUNTS = (2, 150)
SIZE = (64, 64)
WIDE, TALL, SMALL, MIDDLE, LARGE = (65, 97), (96, 80), (33, 65), (96, 96), (128, 128)
SMALLEST = (SMALLEST_SIDE, SMALLEST_SIDE)


def check_model(factory: Factory, *, options: Mapping[str, Any] | None = None) -> tuple[Check, ...]:
    """Tries a model factory on everything that segctl relies on.

    The model is built four times on the CPU, where it sees a handful of images of about 64 x 64 pixels. Random state is
    left as it was.

    Args:
        factory: ``(num_classes, *, options) -> nn.Module``, as an entry point of ``segctl.models`` names it.
        options: Options to build it with instead of its defaults.

    Returns:
        One result per check, in the order in which they ran; one that builds on a failed check is reported as skipped.
    """
    with torch.random.fork_rng(devices=[]):
        return run_steps(_seeded(step) for step in _ModelChecks(factory, dict(options or {})).steps())


def _seeded(step: Step) -> Step:
    """Each check draws the same numbers, whichever ran before it."""

    def run() -> str | None:
        torch.manual_seed(0)
        return step.run()

    return replace(step, run=run)


class _Seen(NamedTuple):
    """A forward pass: the images as they were made, as they were afterwards, and the logits."""

    given: Tensor
    batch: Tensor
    logits: Tensor


class _ModelChecks:
    def __init__(self, factory: Factory, options: dict[str, Any]) -> None:
        self.factory = factory
        self.options = options
        self.traits: ModelTraits = model_traits(factory)
        self.model: nn.Module = nn.Identity()
        self.seen: dict[bool, _Seen] = {}
        self.woken = False
        self.image = torch.empty(0)
        self.loss: Tensor | None = None
        self.finite_gradients: set[str] = set()
        self.reaches_image = False

    def steps(self) -> Iterator[Step]:
        yield from signature_steps(self.factory, "model")
        yield Step("builds", self.builds, gate=True)
        yield Step("logits", self.logits, gate=True)
        yield Step("sees its images", self.sees_its_images, gate=True)
        yield Step("input unchanged", self.input_unchanged)
        yield Step("repeatable", self.repeatable)
        yield Step("state dict", self.state_dict, needs=("repeatable",))  # before training changes running statistics
        yield Step("any size", self.any_size)
        yield Step("single image", self.single_image, needs=("repeatable",))
        yield Step("class counts", self.class_counts)
        yield Step("declared traits", self.declared_traits)
        yield Step("finite loss", self.finite_loss)
        yield Step("gradients", self.gradients, needs=("finite loss",))
        yield Step("bf16 autocast", self.bf16_autocast)
        yield Step("channels last", self.channels_last, needs=("repeatable",))
        yield Step("torch.compile", self.torch_compile, needs=("repeatable",))
        yield Step("torch.export", self.torch_export, needs=("repeatable", "state dict", "any size", "single image"))
        # Last: it converts the model in place.
        yield Step("sync batch norm", self.sync_batch_norm, needs=("repeatable",))

    def build(self, num_classes: int = CLASSES) -> nn.Module:
        model = self.factory(num_classes, **self.options)
        if not isinstance(model, nn.Module):
            raise BreachError(f"the factory returned {type(model).__name__}, not a torch.nn.Module")
        return model

    def builds(self) -> str:
        self.model = self.build()
        return f"{sum(parameter.numel() for parameter in self.model.parameters()):,} parameters"

    def logits(self) -> str:
        """What is returned at the easiest size: a batch of two, both sides a multiple of 32."""
        for training in (True, False):  # evaluation last: `repeatable` compares with it
            batch = images(SIZE)
            given = batch.clone()
            logits = logits_of(outputs := self.forward(batch, training), CLASSES, SIZE, when=_mode(training))
            self.seen[training] = _Seen(given, batch, logits)
            if training:
                photographs = of_different_brightness(images(MIDDLE, count=4))
                _attempt(f"{MIDDLE[0]}x{MIDDLE[1]} images in training", calibrate, self.model, photographs)
        return f"returns {', '.join(f'{name} {tuple(value.shape)}' for name, value in named(outputs).items())}"

    def sees_its_images(self) -> str | None:
        """Else nothing that is tried later on would tell right logits from wrong ones.

        A classifier may start at zero, and sees nothing before its first step: what is zero is then given values.
        """
        seen = self.seen[False]
        if tell_images_apart(seen.logits):
            return None
        self.woken = True
        wake(self.model)
        logits = logits_of(self.forward(seen.given.clone()), CLASSES, SIZE, when="once nothing is zero any more")
        if not tell_images_apart(logits):
            raise BreachError(
                "in evaluation, two different images give the same logits (they differ by up to "
                f"{distance(logits[0], logits[1]):.2g}): the model does not look at its images, or lets nothing of "
                "them through as it is initialised"
            )
        self.seen[False] = seen._replace(logits=logits)
        return "once parameters that start at zero have values"

    def input_unchanged(self) -> None:
        for training, seen in self.seen.items():
            if not torch.equal(seen.batch, seen.given):
                raise BreachError(f"the forward pass modifies its input in place {_mode(training)}")

    def repeatable(self) -> None:
        seen = self.seen[False]
        again = logits_of(self.forward(seen.given.clone()), CLASSES, SIZE)
        if not torch.equal(again, seen.logits):
            raise BreachError(
                "in evaluation, the same images give other logits the second time (by up to "
                f"{distance(again, seen.logits):.2g}): dropout that is always on, or state that a forward pass changes"
            )

    def any_size(self) -> str:
        for size, training in ((WIDE, False), (SMALL, False), (SMALLEST, False), (SMALL, True)):
            self.try_images(size, training)
        return listing(f"{height}x{width}" for height, width in (WIDE, SMALL, SMALLEST))

    def single_image(self) -> None:
        self.try_images(SIZE, training=True, count=1)
        batch = images(SIZE)
        outputs = _attempt(f"a batch of one {_mode(False)}", self.forward, batch[:1].clone())
        alone = logits_of(outputs, CLASSES, SIZE, count=1, when=_mode(False))
        differs = differ(alone, logits_of(self.forward(batch), CLASSES, SIZE))
        if differs:
            raise BreachError(f"in evaluation, an image alone gives other logits than in a batch of two: {differs}")

    def try_images(self, size: tuple[int, int], training: bool, *, count: int = 2) -> None:
        batch = f"{size[0]}x{size[1]} images" if count > 1 else "a batch of one"
        outputs = _attempt(f"{batch} {_mode(training)}", self.forward, images(size, count=count), training)
        logits = logits_of(outputs, CLASSES, size, count=count, when=_mode(training))
        if count > 1 and not training and not tell_images_apart(logits):
            raise BreachError(f"{batch} {_mode(training)} all give the same logits")

    def class_counts(self) -> str:
        for num_classes in OTHER_CLASS_COUNTS:
            outputs = _attempt(f"{num_classes} classes", self.outputs_of, num_classes)
            if not tell_images_apart(logits_of(outputs, num_classes, SIZE, when=f"with {num_classes} classes")):
                raise BreachError(f"with {num_classes} classes, two different images give the same logits")
        return f"also {listing(str(count) for count in OTHER_CLASS_COUNTS)}"

    def outputs_of(self, num_classes: int) -> Any:
        """With the weights and statistics of the model that was tried, as far as they fit."""
        model = self.build(num_classes)
        shapes = {name: value.shape for name, value in model.state_dict().items() if isinstance(value, Tensor)}
        state = self.model.state_dict()
        fitting = {name: state[name] for name in shapes.keys() & state.keys() if state[name].shape == shapes[name]}
        model.load_state_dict(fitting, strict=False)
        if self.woken:
            wake(model)
        return _forward(model, images(SIZE), False)

    def declared_traits(self) -> str:
        """A prefix that names nothing would silently give every parameter the learning rate of the head."""
        names = [name for name, _ in self.model.named_parameters()]
        for prefix in self.traits.backbone:
            if self.traits.backbone != ModelTraits().backbone and not any(name.startswith(prefix) for name in names):
                raise BreachError(
                    f"@model(backbone=...) names {prefix!r}, but no parameter's name begins so; "
                    f"the first is {names[0]!r}"
                )
        backbone = sum(name.startswith(self.traits.backbone) for name in names)
        return f"loss {self.traits.loss}; {backbone} of {len(names)} parameter tensors are the backbone's"

    def finite_loss(self) -> str:
        self.model.train()
        self.image = images(SIZE).requires_grad_()
        loss = self.loss_of(self.image)
        if not torch.isfinite(loss):
            raise BreachError(f"the loss {self.traits.loss} is {loss.item():g}")
        self.loss = loss
        return f"{self.traits.loss} {loss.item():.3f}"

    def gradients(self) -> str:
        assert self.loss is not None
        self.loss.backward()
        self.loss = None
        gradients = {name: parameter.grad for name, parameter in self.model.named_parameters()}
        self.reaches_image = _reached(self.image)
        self.finite_gradients = {name for name, grad in gradients.items() if grad is not None and grad.isfinite().all()}
        return require_gradients(self.model, lambda: self.loss_of(images(LARGE)))

    def loss_of(self, batch: Tensor) -> Tensor:
        height, width = batch.shape[-2:]
        return total(self.criterion()(self.model(batch.clone()), labels((height, width), CLASSES)))

    def bf16_autocast(self) -> None:
        """In the memory that jobs train with on a CPU: there they leave channels last to float32.

        Images are larger than elsewhere, because kernels choose their way, right or wrong, by the size of a map.
        """
        with torch.autocast("cpu", dtype=torch.bfloat16):
            # Not compared with float32: three digits through 50 untrained layers leave nothing of the logits of noise.
            logits = logits_of(self.forward(images(SIZE)), CLASSES, SIZE, when=_mode(False))
            if not tell_images_apart(logits.float()):
                raise BreachError("in evaluation, two different images give the same logits, unlike in float32")
            self.model.train()
            batch = images(LARGE).requires_grad_()
            outputs = self.model(batch.clone())
        logits_of(outputs, CLASSES, LARGE)
        self.backward(outputs, batch)

    def backward(self, outputs: Any, batch: Tensor) -> None:
        """Another backward pass than the one that was tried first, which must be as finite and reach the image too.

        Not of the model's own loss: that one is tried already, and what is to be seen here is the model alone, with the
        heads that only training has. Where logits cannot be compared, because something drops out or digits are few,
        the gradient still tells whether they depend on the image.
        """
        loss = torch.stack([value.float().square().mean() for value in named(outputs).values()]).sum()
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        gradients = {name: p.grad for name, p in self.model.named_parameters() if name in self.finite_gradients}
        broken = [name for name, grad in gradients.items() if grad is not None and not grad.isfinite().all()]
        self.model.zero_grad(set_to_none=True)
        if broken:
            raise BreachError(f"the gradient is not finite for {some(broken)}, unlike in float32 and contiguous memory")
        if self.reaches_image and not _reached(batch):
            raise BreachError(
                "in training, no gradient reaches the image, unlike in float32 and contiguous memory: "
                "the logits do not depend on it"
            )

    def state_dict(self) -> str:
        state = self.model.state_dict()
        odd = [name for name, value in state.items() if not isinstance(value, Tensor)]
        if odd:
            raise BreachError(f"{some(odd)} is not a tensor, and checkpoints are read with weights_only=True")
        torch.manual_seed(1)  # another initialisation: whatever is not in the state dict shall differ
        twin = self.build()
        missing = twin.load_state_dict(state, strict=False)
        if missing.missing_keys or missing.unexpected_keys:
            raise BreachError(
                f"a second model has other names: {some([*missing.missing_keys, *missing.unexpected_keys])}"
            )
        ours, theirs = self.seen[False].logits, _forward(twin, self.seen[False].given.clone(), False)
        theirs = logits_of(theirs, CLASSES, SIZE)
        if not torch.equal(ours, theirs):
            raise BreachError(
                f"a second model with the same state dict gives other logits (by up to {distance(ours, theirs):.2g}): "
                "something that is learnt or drawn at random is neither a parameter nor a buffer"
            )
        return f"{len(state)} tensors"

    def channels_last(self) -> None:
        batch = images(SIZE)
        expected = logits_of(self.forward(batch.clone()), CLASSES, SIZE)
        batch = batch.contiguous(memory_format=torch.channels_last)
        self.model.to(memory_format=torch.channels_last)
        try:
            logits = logits_of(self.forward(batch.clone()), CLASSES, SIZE)
            differs = differ(logits, expected)
            if differs:
                raise BreachError(f"the logits differ from those of contiguous images: {differs}")
            self.model.train()
            outputs = self.model(batch.requires_grad_().clone())
            logits_of(outputs, CLASSES, SIZE)
            self.backward(outputs, batch)
        finally:
            self.model.to(memory_format=torch.contiguous_format)

    def torch_compile(self) -> str:
        """In training, where it pays; evaluation does less, and is traced by `torch_export`."""
        batch = images(SIZE)
        torch.manual_seed(1)  # what drops out is drawn again by the graph
        expected = logits_of(self.forward(batch.clone(), True), CLASSES, SIZE)
        torch.manual_seed(1)
        logits = logits_of(tracing.compiled(self.model, batch), CLASSES, SIZE)
        differs = differ(logits, expected)
        if differs:
            raise BreachError(f"in training, the compiled graph gives other logits than the model: {differs}")
        return "one graph"

    def torch_export(self) -> str:
        """From odd sides, where what was rounded up is cut again, to even ones, where it is not."""
        self.model.eval()
        with torch.no_grad():
            program = tracing.exported(self.model, images(WIDE))
            batch = images(TALL)
            outputs = _attempt(f"exported, one {TALL[0]}x{TALL[1]} image", program, batch[:1].clone())
        logits, expected = logits_of(outputs, CLASSES, TALL, count=1), logits_of(self.forward(batch), CLASSES, TALL)
        differs = differ(logits, expected)
        if differs:
            raise BreachError(
                f"exported with {WIDE[0]}x{WIDE[1]} images it gives other logits for a {TALL[0]}x{TALL[1]} one: "
                f"{differs}"
            )
        return f"from {WIDE[0]}x{WIDE[1]}, right at {TALL[0]}x{TALL[1]}"

    def sync_batch_norm(self) -> str:
        """Counts what runs, not what is registered: a layer that is held twice is converted in one place only."""
        batch = images(SIZE)
        torch.manual_seed(1)
        expected = logits_of(self.forward(batch.clone(), True), CLASSES, SIZE)
        model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        torch.manual_seed(1)
        with BatchNormCalls() as calls:
            outputs = _forward(model, batch, True)
        if calls.plain:
            raise BreachError(
                f"{calls.plain} of {calls.plain + calls.synced} batch normalisations are not reached by "
                "torch.nn.SyncBatchNorm.convert_sync_batchnorm: "
                "the layer is not a registered BatchNorm module, or is held twice"
            )
        differs = differ(logits_of(outputs, CLASSES, SIZE), expected)
        if differs:
            raise BreachError(
                "torch.nn.SyncBatchNorm.convert_sync_batchnorm changes the logits in training: "
                f"{differs}; a BatchNorm layer of a class of its own becomes a plain one"
            )
        return f"{calls.synced} layers" if calls.synced else "no batch normalisation"

    def forward(self, batch: Tensor, training: bool = False) -> Any:
        return _forward(self.model, batch, training)

    def criterion(self) -> Callable[[Any, Tensor], Tensor | Mapping[str, Tensor]]:
        plugin = Plugin(name=self.traits.loss, options=dict(self.traits.loss_options))
        loss: Callable[[Any, Tensor], Tensor | Mapping[str, Tensor]] = registry.create_loss(
            plugin, num_classes=CLASSES, ignore_index=IGNORE_INDEX, class_pixels=lambda: [1] * CLASSES
        )
        return loss


def _forward(model: nn.Module, batch: Tensor, training: bool) -> Any:
    model.train(training)
    with torch.no_grad():
        return model(batch)


def _attempt(what: str, function: Callable[..., Any], *args: Any) -> Any:
    """Calls `function`; an exception is a breach that says at what it happened."""
    try:
        return function(*args)
    except BreachError:
        raise
    except Exception as error:
        raise BreachError(f"{what}: {describe_exception(error)}") from error


def _reached(leaf: Tensor) -> bool:
    return leaf.grad is not None and bool(leaf.grad.any())


def _mode(training: bool) -> str:
    return "in training" if training else "in evaluation"
