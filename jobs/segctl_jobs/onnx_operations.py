"""Operations of torch whose translation to ONNX comes with a limit that our models meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

__all__ = ["translations"]


def translations() -> Mapping[Callable[..., Any], Callable[..., Any]]:
    """For `torch.onnx.export`, beside its own."""
    return {
        torch.ops.aten.convolution.default: _convolution,
        torch.ops.aten.remainder.Scalar: _remainder,
        torch.ops.aten.roll.default: _roll,
    }


def _convolution(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    transposed: bool = False,
    output_padding: Sequence[Any] = (0,),
    groups: int = 1,
) -> Any:
    """``aten::convolution``, also where a transposed one returns to a size that is known only when it runs (ENet).

    ONNX wants to know beforehand how much is added to the far edges. Adding as much as there can be and cutting it off
    gives the same: what is added beyond does not change the rest.
    """
    from onnxscript import opset18 as op

    common = {"strides": list(stride), "pads": [*padding, *padding], "dilations": list(dilation), "group": groups}
    if not transposed:
        return op.Conv(input, weight, bias, **common)
    if all(isinstance(extra, int) for extra in output_padding):
        return op.ConvTranspose(input, weight, bias, output_padding=list(output_padding), **common)
    most = [max(pair) - 1 for pair in zip(stride, dilation, strict=True)]
    full = op.ConvTranspose(input, weight, bias, output_padding=most, **common)
    sides = list(range(2, 2 + len(most)))
    extras = [op.Reshape(op.Identity(extra), op.Constant(value_ints=[1])) for extra in output_padding]
    least = op.Sub(op.Shape(full, start=2), op.Constant(value_ints=most))
    ends = op.Add(least, op.Concat(*extras, axis=0))
    return op.Slice(full, op.Constant(value_ints=[0] * len(sides)), ends, op.Constant(value_ints=sides))


def _remainder(dividend: Any, divisor: Any) -> Any:
    """``aten::remainder`` by a number that may be a size, known only when it runs (SegFormer's patches)."""
    from onnxscript import opset18 as op

    divisor = op.CastLike(divisor, dividend)
    if dividend.dtype.is_floating_point():
        return op.Sub(dividend, op.Mul(op.Floor(op.Div(dividend, divisor)), divisor))
    return op.Mod(dividend, divisor)  # of whole numbers, with the divisor's sign in both


def _roll(input: Any, shifts: Sequence[Any], dims: Sequence[int] = ()) -> Any:
    """``aten::roll``, also by a number that is known only when it runs (Swin's windows)."""
    from onnxscript import opset18 as op

    one, shape = op.Constant(value_ints=[1]), op.Shape(input)
    rolled = input if dims else op.Reshape(input, op.Constant(value_ints=[-1]))
    for shift, dim in zip(shifts, dims or (0,), strict=True):
        axis = dim % len(input.shape) if dims else 0
        length = op.Shape(rolled, start=axis, end=axis + 1)
        known = isinstance(shift, int)
        by = op.Constant(value_ints=[shift]) if known else op.Reshape(op.Identity(shift), one)
        first, along = op.Mod(op.Neg(by), length), op.Constant(value_ints=[axis])
        begin = op.Slice(rolled, first, length, along)
        rolled = op.Concat(begin, op.Slice(rolled, op.Constant(value_ints=[0]), first, along), axis=axis)
    return rolled if dims else op.Reshape(rolled, shape)
