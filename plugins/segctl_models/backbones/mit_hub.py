"""Names of the authors' SegFormer models on the Hugging Face hub (``nvidia/mit-b0`` and so on), which are not the
release's: stages count from 0, and the weights of keys and values are apart.
"""

from __future__ import annotations

import re

import torch

from .weights import StateDict

__all__ = ["from_hub"]

_ENCODER = re.compile(r"segformer\.encoder\.(patch_embeddings|block|layer_norm)\.(\d)\.(.+)")
_STAGE = {"patch_embeddings": "patch_embed", "block": "block", "layer_norm": "norm"}
_BLOCK = {
    "attention.self.query": "attn.q",
    "attention.self.key": "attn.k",
    "attention.self.value": "attn.v",
    "attention.self.sr": "attn.sr",
    "attention.self.layer_norm": "attn.norm",
    "attention.output.dense": "attn.proj",
    "mlp.dense1": "mlp.fc1",
    "mlp.dense2": "mlp.fc2",
    "layer_norm_1": "norm1",
    "layer_norm_2": "norm2",
    "layer_norm": "norm",
}
_DECODER = {
    "linear_fuse": "linear_fuse.conv",
    "batch_norm": "linear_fuse.bn",
    "classifier": "linear_pred",
    **{f"linear_c.{stage}.proj": f"linear_c{stage + 1}.proj" for stage in range(4)},
}


def from_hub(state: StateDict) -> StateDict:
    """The hub's state dict under the release's names; one under other names stays as it is."""
    own = {_renamed(key): value for key, value in state.items()}
    for key in [key for key in own if ".attn.k." in key]:
        value = own.pop(key.replace(".attn.k.", ".attn.v."))
        own[key.replace(".attn.k.", ".attn.kv.")] = torch.cat([own.pop(key), value])
    return own


def _renamed(key: str) -> str:
    if encoder := _ENCODER.fullmatch(key):
        part, stage, rest = encoder.groups()
        *layer, parameter = rest.split(".")
        block = [layer.pop(0)] if part == "block" else []
        layer = ".".join(layer)
        return ".".join(filter(None, [f"{_STAGE[part]}{int(stage) + 1}", *block, _BLOCK.get(layer, layer), parameter]))
    layer, _, parameter = key.removeprefix("decode_head.").rpartition(".")
    if key.startswith("decode_head.") and layer in _DECODER:
        return f"decode_head.{_DECODER[layer]}.{parameter}"
    return key
