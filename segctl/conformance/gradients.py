"""Whether all of a model learns: what to say of gradients that are missing, infinite or zero."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from segctl.conformance.batch_norm import ConstantStatistics
from segctl.conformance.report import BreachError
from segctl.conformance.tensors import some

_TRIES = 3
_OPENED = 0.1  # the most that a parameter becomes which starts at zero


def require_gradients(model: nn.Module, loss: Callable[[], Tensor]) -> str:
    """Looks at the gradients that a backward pass has left in `model`, and removes them.

    Args:
        model: In training.
        loss: Makes another forward pass, of other images, which is tried where gradients are zero.

    Returns:
        How many parameters learn.

    Raises:
        BreachError: A parameter gets no gradient, one that is not finite, or one that is zero and stays so.
    """
    trained = _trained(model)
    unused = [name for name, parameter in trained.items() if parameter.grad is None]
    if unused:
        raise BreachError(
            f"{len(unused)} of {len(trained)} parameters get no gradient: {some(unused)}; they are never trained, and "
            "make distributed training fail"
        )
    broken = [name for name, p in trained.items() if p.grad is not None and not p.grad.isfinite().all()]
    if broken:
        raise BreachError(f"the gradient is not finite for {some(broken)}")
    idle = _idle(model, loss)
    if idle:
        raise BreachError(
            f"the gradient of {len(idle)} of {len(trained)} parameters is zero in every element: {some(idle)}; "
            "nothing that the loss sees depends on them, so they never learn"
        )
    frozen = sum(not parameter.requires_grad for parameter in model.parameters())
    return f"{len(trained)} tensors" + (f", {frozen} more are frozen" if frozen else "")


def _idle(model: nn.Module, loss: Callable[[], Tensor]) -> list[str]:
    """The parameters whose gradient is zero, now and also where nothing excuses that.

    Two things do. What lies behind a gate that starts at zero, as the attention of DANet does, learns once the gate has
    moved: a parameter that is all zero but has a gradient is given a value (where gates lie behind gates, the next try
    opens the next one). And what only shifts the input of a batch normalisation, as a convolution's bias before it
    does, cancels out, to the last bit or not, as long as the gradient passes through the mean of the batch: it is kept
    from there.
    """
    trained = _trained(model)
    idle = _without_gradient(trained)
    kept = {name: parameter.detach().clone() for name, parameter in trained.items() if not parameter.any()}
    try:
        for _ in range(_TRIES if idle else 0):
            _open_gates([trained[name] for name in kept])
            model.zero_grad(set_to_none=True)
            with ConstantStatistics():
                loss().backward()
            idle &= _without_gradient(trained)  # another image may reach what a ReLU or a dropped path has hidden
            if not idle:
                break
    finally:
        with torch.no_grad():
            for name, value in kept.items():
                trained[name].copy_(value)
        model.zero_grad(set_to_none=True)
    return [name for name in trained if name in idle]


def _open_gates(gates: list[nn.Parameter]) -> None:
    """Gives those that are still zero, but would learn, values such as a step of training might.

    Positive ones: what is added before a ReLU shall not close it.
    """
    with torch.no_grad():
        for gate in gates:
            if gate.grad is not None and gate.grad.any() and not gate.any():
                gate.uniform_(0, _OPENED)


def wake(model: nn.Module) -> None:
    """Gives all parameters that are zero and learn values such as a step of training might."""
    with torch.no_grad():
        for parameter in _trained(model).values():
            if not parameter.any():
                parameter.uniform_(0, _OPENED)


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _without_gradient(parameters: dict[str, nn.Parameter]) -> set[str]:
    return {name for name, parameter in parameters.items() if parameter.grad is None or not parameter.grad.any()}
