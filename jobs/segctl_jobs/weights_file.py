"""Weights that others saved: read without running their code, taken out of what they were saved in."""

from __future__ import annotations

import pickle
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segctl.errors import WeightsError, listing, why_not_weights
from segctl_jobs.weights_record import recorded, recorded_as_json

__all__ = ["WeightsFile", "read"]

# Where state dicts stand in checkpoints, the most wanted first: an average of the weights goes before the weights.
# torchvision's references, timm, Lightning, mmengine, the reference project and segctl itself use these.
ENTRIES = (
    *("ema", "ema_state_dict", "state_dict_ema", "model_ema", "ema_model"),
    *("model", "state_dict", "model_state_dict", "model_state", "net", "network", "params", "weights", "module"),
)
# What wraps a model under a name of its own: DistributedDataParallel, torch.compile, Lightning modules.
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.", "segmentor.")
DEEPEST = 3
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class WeightsFile:
    """What a file holds.

    Attributes:
        state: Tensors by name, in the file's order; BatchNorm's counters of steps are left out.
        notices: What was chosen or left out.
        model: The name and options of the model that they are of, where segctl wrote the file.
    """

    state: Mapping[str, Tensor]
    notices: tuple[str, ...] = ()
    model: Mapping[str, Any] | None = None


def read(path: Path) -> WeightsFile:
    """Reads a file of `torch.save`, or of safetensors where its name ends so.

    Raises:
        WeightsError: There is no such file, it is damaged, or holds no state dict.
    """
    if not path.is_file():
        raise WeightsError(f"The file of weights {path} {'is a folder' if path.is_dir() else 'does not exist'}.")
    if path.suffix == ".safetensors":
        state, model = _read_safetensors(path)
        return WeightsFile(_unwrapped(state), model=model)
    content, notices = _read_torch(path)
    found = dict(_state_dicts(content, ""))
    if not found:
        raise WeightsError(
            f"{path} holds no state dict.", "It is to be what torch.save(model.state_dict(), ...) writes."
        )
    where = min(found, key=lambda place: _preference(place, found[place]))
    if len(found) > 1 and where:
        others = listing(sorted(place for place in found if place != where))
        notices = (*notices, f"{path.name} holds several sets of weights; {where} was taken, not {others}.")
    return WeightsFile(_unwrapped(found[where]), notices, recorded(content))


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any] | None]:
    try:
        from safetensors import SafetensorError, safe_open
        from safetensors.torch import load_file
    except ImportError:
        raise WeightsError(
            f"{path} needs the package safetensors.", "Install it: pip install 'segctl[export]'"
        ) from None
    try:
        state: dict[str, Tensor] = load_file(path)
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}.") from error
    return state, recorded_as_json(metadata.get("segctl"))


def _read_torch(path: Path) -> tuple[Any, tuple[str, ...]]:
    if _is_torchscript(path):  # torch.load would hand it over to torch.jit.load
        raise WeightsError(f"{path} is a TorchScript program, not weights.", "Save its state dict instead.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True), ()
    except pickle.UnpicklingError as error:
        return _read_with_stand_ins(path, error)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # what torch.load raises on a damaged or foreign file is not a fixed set
        raise _unreadable(path, error) from error


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


class _StandIn:
    """In the place of a class that weights may not bring along; its objects are empty, and its code is never run."""

    def __new__(cls, *arguments: Any, **options: Any) -> Any:
        # The one type that torch's restricted unpickler takes for objects with a state and for mappings alike.
        return Counter()


def _read_with_stand_ins(path: Path, refused: Exception) -> tuple[Any, tuple[str, ...]]:
    """Reads a checkpoint that holds more than tensors (hyper-parameters, metrics), with something empty for the rest.

    torch reads nothing but what is allowed; each name that it refuses is allowed as `_StandIn`. Modules that torch
    never allows (os, sys) stay refused.
    """
    try:
        names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        stand_ins = [(type("StandIn", (_StandIn,), {}), name) for name in names]
        with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise _unreadable(path, refused) from error
    shown = listing([*names[:3], *(["others"] if len(names) > 3 else [])])
    return content, (f"{path.name} holds more than tensors; objects of {shown} were left out.",)


def _unreadable(path: Path, error: Exception) -> WeightsError:
    with path.open("rb") as file:
        reason = why_not_weights(file.read(64), error)
    return WeightsError(
        f"{path} cannot be read as PyTorch weights: {reason}.",
        "Give a state dict; where you trust the file: "
        "torch.save(torch.load(FILE, weights_only=False)['state_dict'], 'state.pt')"
        if zipfile.is_zipfile(path)
        else "Give what torch.save(model.state_dict(), ...) writes.",
    )


def _state_dicts(content: Any, place: str, depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every mapping from names to tensors, by where it stands: ``"state_dict"``, ``"state.model"``."""
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        return
    tensors = {key: value.detach() for key, value in content.items() if isinstance(value, Tensor)}
    if any("." in name for name in tensors) or (tensors and len(tensors) == len(content)):
        yield place, tensors
        return
    if depth < DEEPEST:
        for key, value in content.items():
            yield from _state_dicts(value, f"{place}.{key}" if place else key, depth + 1)


def _preference(place: str, state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Known names first, in their order; of unknown ones what holds most."""
    last = place.rpartition(".")[2]
    return (ENTRIES.index(last) if last in ENTRIES else len(ENTRIES), -len(state))


def _unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefix of a wrapper, which stands before most names (a Lightning module may hold its loss beside)."""
    state = {name: value for name, value in state.items() if not name.endswith(COUNTER)}
    while True:
        prefix = next((each for each in WRAPPERS if 2 * sum(n.startswith(each) for n in state) > len(state)), None)
        if prefix is None:
            return dict(state)
        renamed = {name.removeprefix(prefix): value for name, value in state.items()}
        if len(renamed) < len(state):  # two would get one name
            return dict(state)
        state = renamed
