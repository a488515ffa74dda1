"""Traces a model as `torch.compile` and `torch.export` do, without generating code for it: that takes seconds."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.fx.experimental import _config as tracing_settings

from segctl.conformance.report import BreachError

_ANY_SIZE = "backed_size_oblivious"  # a setting that not every version of torch has
_NUMBER_ALONE = re.compile(r"L\['[^']+'\]\.size\(\)\[0\] (?:!=|>) 1")
_LONGEST = 300  # characters of a tracer's message; some tell their whole state


def compiled(model: nn.Module, batch: Tensor) -> Any:
    """What the model gives for `batch`, run from the one graph that `torch.compile` makes of its forward pass.

    Raises:
        BreachError: It is more than one graph: something in it is Python that depends on the data, or is not traced.
    """
    torch._dynamo.reset()  # what other models left behind counts against the limit of recompilations
    try:
        # The eager backend runs the graph as it is; whether there is one graph does not depend on the backend.
        return torch.compile(model, backend="eager", fullgraph=True, dynamic=False)(batch)
    except torch._dynamo.exc.TorchDynamoException as error:
        raise BreachError(f"its forward pass is not one graph: {_reason(error)}") from error
    finally:
        torch._dynamo.reset()


def exported(model: nn.Module, example: Tensor) -> Callable[[Tensor], Any]:
    """The model as `torch.export` has it, for batches and images of any size, in the way of `segctl export`.

    Raises:
        BreachError: It cannot be exported, or for the size of `example` only.
    """
    sizes = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    # Else a map that is cut back to the image's size must then always, or never, be cut.
    settings: Any = tracing_settings
    any_size = settings.patch(**{_ANY_SIZE: True}) if hasattr(settings, _ANY_SIZE) else contextlib.nullcontext()
    try:
        with any_size:
            program = torch.export.export(model, (example,), dynamic_shapes=(sizes,), strict=False)
        # What the tracer notes of the number of images alone is about the order of memory, not about what is right.
        noted = getattr(program, "_guards_code", None)
        if noted:
            program._guards_code = [each for each in noted if not _NUMBER_ALONE.fullmatch(each)]
        return program.module()
    except Exception as error:  # its own errors and whatever the model raises when it sees tensors without data
        raise BreachError(f"it cannot be exported with any number, height and width of images: {_reason(error)}") from (
            error
        )


def _reason(error: Exception) -> str:
    """The first sentences of a tracer's message, and the last place in the model that it names."""
    text = str(error)
    places = re.findall(r'File "([^"]+)", line (\d+), in', text.partition("from user code")[2])
    told = re.split(r"\n\s*Hint:|\n\s*Developer debug context:|\n\n", text)[0]
    told = " ".join(re.sub(r"For more information, run with \S+\n?", "", told).split())
    told = told if len(told) <= _LONGEST else f"{told[:_LONGEST]} ..."
    where = f" ({places[-1][0]}:{places[-1][1]})" if places else ""
    return f"{type(error).__name__}: {told or 'no message'}{where}"
