"""Looks into the batch normalisations of a model as they run, whether or not they are registered layers."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_ARGUMENTS = inspect.signature(nn.functional.batch_norm)


def calibrate(model: nn.Module, batch: Tensor) -> None:
    """Sets running statistics to those of `batch`, and keeps them there; the model is left in training.

    With the statistics that layers are made with, activations die out over the layers of an untrained model, until its
    logits are much the same for any image. Later forward passes, of a pixel or two at the deepest layers, shall not
    move them again.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over all that follows
    model.train()
    with torch.no_grad():
        model(batch)
    for layer in layers:
        layer.momentum = 0.0


class BatchNormCalls(TorchFunctionMode):
    """Counts the batch normalisations that run: in `torch.nn.SyncBatchNorm` layers, and everywhere else.

    Without a process group both end in the same function, so each call is told by the layer that is running around it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.synced = 0
        self.plain = 0
        self._entered = 0

    def __enter__(self) -> BatchNormCalls:
        register = nn.modules.module.register_module_forward_pre_hook
        self._hook = register(lambda module, _: self._enter(module))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._hook.remove()
        self.synced = self._entered
        self.plain = max(0, self.plain - self._entered)

    def _enter(self, module: nn.Module) -> None:
        self._entered += isinstance(module, nn.SyncBatchNorm)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.plain += function in (nn.functional.batch_norm, torch.batch_norm)
        return function(*args, **(kwargs or {}))


class ConstantStatistics(TorchFunctionMode):
    """Lets batch normalisations take the mean and variance of the batch as constants, through which no gradient passes.

    What they return is the same; running statistics stay as they are.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if function is nn.functional.batch_norm:
            given = _ARGUMENTS.bind(*args, **given).arguments
            args = ()
            if given.get("training"):
                x = given["input"].detach()
                variance, mean = torch.var_mean(x, [axis for axis in range(x.dim()) if axis != 1], correction=0)
                given |= {"running_mean": mean, "running_var": variance, "training": False}
        return function(*args, **given)
