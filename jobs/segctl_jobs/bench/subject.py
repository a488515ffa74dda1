"""What is measured: a model with its loss, and a step of it as `segctl train` and `segctl eval` take one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models as torchvision_models

from segctl import registry
from segctl.config.schema import Plugin
from segctl.errors import ConfigError, LaunchError, PluginError, SegctlError, did_you_mean, listing
from segctl.plugin import model_traits
from segctl_jobs.build import amp_dtype, memory_format

IGNORE_INDEX = 255


@dataclass(frozen=True)
class Setting:
    """Under what all models are measured.

    Attributes:
        size: Height and width of the images.
        batch_size: Images at a time.
        num_classes: Classes to tell apart.
        device: ``"cpu"`` or ``"cuda"``.
        amp: Whether with bf16 autocast.
        compile: Whether with `torch.compile`.
        seconds: How long one timed block lasts at least.
    """

    size: tuple[int, int]
    batch_size: int
    num_classes: int
    device: str
    amp: bool
    compile: bool
    seconds: float

    def __str__(self) -> str:
        return f"{self.batch_size} image{'s' * (self.batch_size > 1)} of {self.size[0]}x{self.size[1]}"

    @property
    def autocast(self) -> torch.dtype | None:
        """To which type, if any."""
        return amp_dtype("bf16" if self.amp else "off", torch.device(self.device))

    @property
    def layout(self) -> torch.memory_format:
        """The order in memory of weights and images: the one in which a job would have them."""
        return memory_format(True, self.autocast, torch.device(self.device))


@dataclass(frozen=True)
class Subject:
    """A model to measure: a plugin, or with `torchvision` one of torchvision's segmentation models."""

    plugin: Plugin
    torchvision: bool = False

    def __str__(self) -> str:
        return f"{self.plugin.name} of torchvision" if self.torchvision else f"model {self.plugin.name}"

    def load(self) -> None:
        """Imports what the model comes from.

        Raises:
            PluginError: It cannot be imported.
        """
        if not self.torchvision:
            registry.find("models", self.plugin.name).load()

    def create(self, num_classes: int) -> nn.Module:
        if not self.torchvision:
            model: nn.Module = registry.create_model(self.plugin, num_classes)
            return model
        # With the auxiliary head, as its published weights want it.
        auxiliary = {} if self.plugin.name.startswith("lraspp") else {"aux_loss": True}
        model = torchvision_models.get_model(
            self.plugin.name, weights=None, weights_backbone=None, num_classes=num_classes, **auxiliary
        )
        return _AuxiliaryInTraining(model) if auxiliary else model

    def create_loss(self, num_classes: int) -> Callable[[Any, Tensor], Tensor | Mapping[str, Tensor]]:
        """The loss that it is trained with unless another is named; torchvision's with cross entropy."""
        factory = None if self.torchvision else registry.find("models", self.plugin.name).load()
        traits = model_traits(factory or self.create)
        loss: Callable[[Any, Tensor], Tensor | Mapping[str, Tensor]] = registry.create_loss(
            Plugin(name=traits.loss, options=dict(traits.loss_options)),
            num_classes=num_classes,
            ignore_index=IGNORE_INDEX,
            class_pixels=lambda: [1] * num_classes,
        )
        return loss


class _AuxiliaryInTraining(nn.Module):
    """A model of torchvision that computes its auxiliary head in training alone, as ours do; its own does it always."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Mapping[str, Tensor]:
        if self.training:
            outputs: Mapping[str, Tensor] = self.model(image)
            return outputs
        logits = self.model.classifier(self.model.backbone(image)["out"])
        return {"out": F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)}


def torchvision_subject(name: str) -> Subject:
    """One of torchvision's segmentation models.

    Raises:
        ConfigError: It has none of that name.
    """
    known = torchvision_models.list_models(module=torchvision_models.segmentation)
    if name not in known:
        raise ConfigError(
            f"torchvision has no segmentation model {name!r}.",
            did_you_mean(name, known) or f"It has {listing(known)}.",
        )
    return Subject(Plugin(name=name), torchvision=True)


class Session:
    """A model on its device with a batch, ready to be run again and again.

    The weights are random and so are the labels: neither changes how long a step takes.
    """

    def __init__(self, subject: Subject, setting: Setting) -> None:
        torch.manual_seed(0)
        torch.backends.cudnn.benchmark = True  # as in training
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        self.device = torch.device(setting.device)
        self.amp = setting.autocast
        self.model = subject.create(setting.num_classes).to(self.device, memory_format=setting.layout)
        if setting.compile:
            self.model.compile()
        self.loss = subject.create_loss(setting.num_classes)
        if isinstance(self.loss, nn.Module):
            self.loss.to(self.device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4, momentum=0.9)
        images = torch.randn(setting.batch_size, 3, *setting.size)
        self.images = images.to(self.device, memory_format=setting.layout)
        self.target = torch.randint(setting.num_classes, (setting.batch_size, *setting.size)).to(self.device)

    def forward(self) -> None:
        self.model.eval()
        with torch.no_grad(), self._autocast():
            self.model(self.images)

    def training(self) -> None:
        """Forward, loss, backward and the optimizer's step."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            terms = self.loss(self.model(self.images), self.target)
        total = torch.stack(list(terms.values())).sum() if isinstance(terms, Mapping) else terms
        total.backward()
        self.optimizer.step()

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.amp or torch.bfloat16, enabled=self.amp is not None)


@contextmanager
def blaming(subject: Subject, setting: Setting) -> Iterator[None]:
    """Turns what a model raises while it is measured into one sentence.

    Raises:
        LaunchError: It needs more memory than there is, or cannot be compiled here.
        PluginError: It fails.
    """
    try:
        yield
    except SegctlError:
        raise
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise out_of_memory(subject, setting) from error
    except Exception as error:
        if "can't allocate memory" in str(error):  # torch's plain RuntimeError on a CPU
            raise out_of_memory(subject, setting) from error
        reason = next(iter(str(error).strip().splitlines()), "no message")
        if type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
            raise LaunchError(
                f"The {subject} cannot be compiled here: {type(error).__name__}: {reason}.", "Leave out --compile."
            ) from error
        hint = "" if subject.torchvision else f"`segctl plugins check {subject.plugin.name}` says more."
        raise PluginError(f"The {subject} fails on {setting}: {type(error).__name__}: {reason}.", hint) from error


def out_of_memory(subject: Subject, setting: Setting) -> LaunchError:
    return LaunchError(
        f"The {subject} needs more memory than there is to train on {setting}.", "Choose a smaller --batch or --size."
    )
