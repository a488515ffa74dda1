"""Weights to start from: ImageNet's, downloaded, or those of a local file. Whatever does not fit is refused.

A download goes to torch hub's cache (``$TORCH_HOME/hub/checkpoints``, by default below ``~/.cache/torch``) under its
own name. It is written beside and renamed, so that a process sees all of it or nothing. Several processes that start at
once would each download it: a job lets its first process create the model before the others.
"""

from __future__ import annotations

import logging
import re
import shlex
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights

from segctl.errors import WeightsError, listing, why_not_weights

__all__ = ["StateDict", "imagenet_url", "initialise", "read_state", "under_backbone"]

StateDict = Mapping[str, Tensor]

log = logging.getLogger(__name__)

_DEEPEST = 3  # below that no checkpoint holds weights
_TIMEOUT = 30.0  # seconds without an answer; a firewall that drops packets would otherwise hold the job for minutes


def imagenet_url(name: str) -> str:
    """Address of torchvision's ImageNet weights for the classifier `name`, of the original training recipe (version 1).

    Published segmentation results rest on these; those of the later recipe score higher on ImageNet only.
    """
    url: str = get_model_weights(name)["IMAGENET1K_V1"].url
    return url


def under_backbone(model: nn.Module, state: StateDict) -> StateDict:
    """An ImageNet classifier's state dict under the names of `model`, whose backbone it comes from."""
    return {f"backbone.{key}": value for key, value in model.backbone.from_imagenet(state).items()}  # type: ignore[operator, union-attr]


def initialise(
    model: nn.Module,
    *,
    weights: str | None,
    pretrained: bool = False,
    from_imagenet: Callable[[nn.Module, StateDict], StateDict] = under_backbone,
    optional: Collection[str] = (),
) -> nn.Module:
    """Gives `model` its initial weights, in place, and returns it.

    Args:
        model: The model; its backbone, where it has one, is the attribute ``backbone``.
        weights: A file with a state dict of the whole model, of its backbone alone, or of the ImageNet classifier that
            the backbone comes from; or with one alone as its entry ``ema``, ``model`` or ``state_dict`` (of ``ema``
            and ``model`` the first). Goes before `pretrained`.
        pretrained: Whether to download that classifier's weights, from the address ``model.backbone.imagenet``.
        from_imagenet: Translates the names of the classifier's state dict to those of `model`.
        optional: Attributes of `model` that also a state dict of the whole model may lack.

    Raises:
        WeightsError: The weights cannot be had or read, or do not fit.
    """
    if weights is not None:
        path = Path(weights).expanduser()
        hint = (
            "Give a state dict of this very model, or of its backbone alone with torchvision's names; "
            f"`segctl weights import {shlex.quote(str(path))} --model MODEL -o OUT` makes one of what others saved."
        )
    elif pretrained:
        path = _download(_address(model))
        hint = "Delete that file to have it downloaded again."
    else:
        return model
    state, required = _translate(read_state(path, hint), model, from_imagenet, optional)
    faults = _faults(model.state_dict(), state, required)
    if faults:
        raise WeightsError(f"The weights in {path} do not fit the model: of their entries, {listing(faults)}.", hint)
    model.load_state_dict(state, strict=False)
    return model


def _address(model: nn.Module) -> str:
    """Where the ImageNet weights of the backbone of `model` are.

    Raises:
        WeightsError: torchvision has no such weights.
    """
    backbone = getattr(model, "backbone", model)
    address = getattr(backbone, "imagenet", None)
    if address is None:
        stem = getattr(backbone, "stem", "7x7")  # a ResNet's is a name; another backbone's may be its layers
        other_stem = isinstance(stem, str) and stem != "7x7"
        raise WeightsError(
            f"There are no ImageNet weights to download for the backbone {type(backbone).__name__}"
            + (f" with the stem {stem}." if other_stem else "."),
            ("Choose the stem 7x7, give" if other_stem else "Give")
            + " a file with them (`--model.weights FILE`), or train from scratch with `pretrained: false`.",
        )
    return str(address)


def _translate(
    state: StateDict,
    model: nn.Module,
    from_imagenet: Callable[[nn.Module, StateDict], StateDict],
    optional: Collection[str],
) -> tuple[StateDict, set[str]]:
    """The state dict under the names of `model`, and the parts of `model` of which nothing may be missing in it."""
    parts = {name for name, _ in model.named_children()}
    if "backbone" in parts and "backbone" not in _parts(state):
        state = from_imagenet(model, state)
        return state, {"backbone", *_parts(state)}
    if _parts(state) == {"backbone"}:
        return state, {"backbone"}
    return state, parts - set(optional)


def _faults(own: StateDict, state: StateDict, required: set[str]) -> list[str]:
    """What keeps `state` from being loaded into a model with the state dict `own`."""
    missing = [
        key
        for key in own
        if key not in state
        and key.split(".")[0] in required
        and not key.endswith("num_batches_tracked")  # files older than torch 0.4.1 lack this counter
    ]
    unexpected = [key for key in state if key not in own]
    misshapen = [
        f"{key}: {tuple(value.shape)} instead of {tuple(own[key].shape)}"
        for key, value in state.items()
        if key in own and own[key].shape != value.shape
    ]
    converted = [
        f"{key}: {str(value.dtype).removeprefix('torch.')}"
        for key, value in state.items()
        if key in own and own[key].is_floating_point() and not value.is_floating_point()
    ]
    spoilt = [key for key, value in state.items() if key in own and not value.isfinite().all()]
    kinds = {
        "missing": missing,
        "unexpected": unexpected,
        "of another shape": misshapen,
        "of no real numbers": converted,
        "infinite or not numbers": spoilt,
    }
    return [f"{len(keys)} {kind} ({_some(keys)})" for kind, keys in kinds.items() if keys]


def _parts(state: StateDict) -> set[str]:
    return {key.split(".")[0] for key in state}


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")


def read_state(path: Path, hint: str) -> StateDict:
    """Reads a state dict, or the one in a checkpoint, without running code from the file.

    What `segctl weights import` chooses and unwraps beyond that is refused: a file has one meaning here.

    Args:
        path: What `torch.save` wrote.
        hint: The way out, should that fail.

    Raises:
        WeightsError: There is no such file, it is damaged, or holds something else, or several sets of weights.
    """
    if not path.is_file():
        raise WeightsError(f"The file of weights {path} {'is a folder' if path.is_dir() else 'does not exist'}.", hint)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.", hint) from error
    except Exception as error:  # what torch.load raises on a damaged or foreign file is not documented, nor a fixed set
        with path.open("rb") as file:
            fault = why_not_weights(file.read(64), error)
        raise WeightsError(f"{path} cannot be read as PyTorch weights: {fault}.", hint) from error
    found = dict(_state_dicts(content))
    if len(found) > 1 and set(found) != {"ema", "model"}:
        raise WeightsError(f"{path} holds several sets of weights: {listing(sorted(found))}.", hint)
    state = next((found[place] for place in ("", "ema", "model", "state_dict") if place in found), None)
    if state is None or not all(isinstance(value, Tensor) for value in state.values()):
        where = f", but one as {listing(found)}" if state is None and found else ""
        raise WeightsError(f"{path} does not hold a state dict{where}.", hint)
    if all(key.startswith("module.") for key in state):  # DistributedDataParallel's
        return {key.removeprefix("module."): value for key, value in state.items()}
    return state


def _state_dicts(content: object, place: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Mappings with a layer's tensor, or with nothing but tensors, by where they stand: ``""``, ``"ema"``."""
    if not isinstance(content, Mapping) or not content or not all(isinstance(key, str) for key in content):
        return
    tensors = [key for key, value in content.items() if isinstance(value, Tensor)]
    if len(tensors) == len(content) or any("." in key for key in tensors):
        yield place, content
    elif depth < _DEEPEST:
        for key, value in content.items():
            yield from _state_dicts(value, f"{place}.{key}" if place else key, depth + 1)


def _download(url: str) -> Path:
    """The file at `url`, from torch hub's cache or else downloaded into it.

    Raises:
        WeightsError: It is not in the cache and cannot be downloaded; says where to put it.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if path.is_file():
        return path
    digest = re.search(r"-([0-9a-f]{8,})\.", path.name)
    log.info("downloading %s to %s", url, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _socket_timeout(_TIMEOUT):
            torch.hub.download_url_to_file(url, str(path), digest and digest[1], progress=False)
    except (OSError, RuntimeError) as error:  # RuntimeError: the hash is not that of the name
        reason = error if isinstance(error, HTTPError) else getattr(error, "reason", error)
        raise WeightsError(
            f"The pretrained weights could not be downloaded from {url} ({reason}).",
            f"Put that file at {path}, or train from scratch with `pretrained: false`.",
        ) from error
    return path


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
