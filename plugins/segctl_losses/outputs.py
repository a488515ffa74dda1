"""What a loss reads off a model's outputs: the maps of logits in them, in float32 and at the target's size."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from segctl.errors import PluginError, listing

__all__ = ["in_float32", "logits_maps"]


def logits_maps(outputs: Tensor | Mapping[str, Tensor], target: Tensor, num_classes: int) -> dict[str, Tensor]:
    """The main logits as ``"out"``, and each auxiliary map under its own name, in the model's order.

    An auxiliary map is any further entry of shape ``(N, num_classes, h, w)``. Entries of other shapes, such as EncNet's
    ``se`` of shape ``(N, num_classes)``, are for other losses and left out.

    Args:
        outputs: What the model returned: logits ``(N, num_classes, H, W)``, or a mapping with them as ``"out"``.
        target: ``(N, H, W)``. Logits of another size are resized to it (bilinear, corners not aligned): labels have no
            values between two classes, so they are never resized.
        num_classes: Number of classes.

    Returns:
        Maps ``(N, num_classes, H, W)``, float32 also under autocast (float64 stays as it is).

    Raises:
        PluginError: There is no ``"out"``, or its shape is not as above.
    """
    maps = dict(outputs) if isinstance(outputs, Mapping) else {"out": outputs}
    if "out" not in maps:
        raise PluginError(
            f"The model returned {listing(maps)}, but no 'out'.",
            "Its logits must be named 'out', or be all it returns.",
        )
    main = maps.pop("out")
    if main.ndim != 4 or main.shape[1] != num_classes:
        raise PluginError(
            f"The model's logits have the shape {tuple(main.shape)}; "
            f"for {num_classes} classes it must be (N, {num_classes}, H, W)."
        )
    auxiliary = {name: entry for name, entry in maps.items() if entry.ndim == 4 and entry.shape[1] == num_classes}
    return {name: _as_target(logits, target) for name, logits in {"out": main, **auxiliary}.items()}


def in_float32(logits: Tensor) -> Tensor:
    """`logits` in float32, in which losses are computed also under autocast; float64 stays as it is."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _as_target(logits: Tensor, target: Tensor) -> Tensor:
    logits = in_float32(logits)
    if logits.shape[-2:] != target.shape[-2:]:
        logits = F.interpolate(logits, size=target.shape[-2:], mode="bilinear", align_corners=False)
    return logits
