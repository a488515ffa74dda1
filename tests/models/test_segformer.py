"""SegFormer against the paper and the authors' release."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from meta_models import count, on_meta
from torch import Tensor, nn
from torch.nn import functional as F

from segctl_models.backbones.mit import Attention, MiT
from segctl_models.segformer import AllMLPDecoder, segformer


@pytest.mark.parametrize(
    ("variant", "encoder", "expected"),
    [  # of the authors' models on the Hugging Face hub, as built by transformers 5.23
        ("b0", 3_319_392, {150: 3_752_694, 19: 3_719_027}),
        ("b1", 13_151_424, {150: 13_715_798, 19: 13_682_131}),
        ("b2", 24_196_288, {150: 27_461_974, 19: 27_361_235}),
        ("b3", 44_072_128, {150: 47_337_814, 19: 47_237_075}),
        ("b4", 60_842_688, {150: 64_108_374, 19: 64_007_635}),
        ("b5", 81_443_008, {150: 84_708_694, 19: 84_607_955}),
    ],
)
def test_same_number_of_parameters_as_the_authors(variant: str, encoder: int, expected: dict[int, int]) -> None:
    for num_classes, parameters in expected.items():
        model = on_meta(segformer, num_classes, variant=variant)
        assert count(model.backbone) == encoder
        assert count(model) == parameters


def test_parameters_are_named_as_in_the_release() -> None:
    linear, both = ("weight", "bias"), ("norm1", "attn.q", "attn.kv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    names = set()
    for stage in (1, 2, 3, 4):
        names |= {f"backbone.{part}.{x}" for part in _around(stage) for x in linear}
        for block in (0, 1):
            layers = [*both, "mlp.dwconv.dwconv", *(["attn.sr", "attn.norm"] if stage < 4 else [])]
            names |= {f"backbone.block{stage}.{block}.{layer}.{x}" for layer in layers for x in linear}
        names |= {f"decode_head.linear_c{stage}.proj.{x}" for x in linear}
    names |= {f"decode_head.{layer}.{x}" for layer in ("linear_pred", "linear_fuse.bn") for x in linear}
    names |= {"decode_head.linear_fuse.conv.weight"}
    with torch.device("meta"):
        assert {name for name, _ in segformer(3).named_parameters()} == names


def _around(stage: int) -> tuple[str, str, str]:
    return f"patch_embed{stage}.proj", f"patch_embed{stage}.norm", f"norm{stage}"


def hub_file(segments: bool) -> dict[str, Tensor]:
    """Names and shapes of ``nvidia/segformer-b0-finetuned-ade-512-512`` and of ``nvidia/mit-b0``, with other values."""
    torch.manual_seed(0)
    state: dict[str, Tensor] = {}

    def layer(name: str, *shape: int, bias: bool = True) -> None:
        state[f"{name}.weight"] = torch.randn(shape)
        if bias:
            state[f"{name}.bias"] = torch.randn(shape[0])

    for stage, (inputs, width, side) in enumerate(((3, 32, 7), (32, 64, 3), (64, 160, 3), (160, 256, 3))):
        encoder = "segformer.encoder"
        layer(f"{encoder}.patch_embeddings.{stage}.proj", width, inputs, side, side)
        layer(f"{encoder}.patch_embeddings.{stage}.layer_norm", width)
        layer(f"{encoder}.layer_norm.{stage}", width)
        for block in (f"{encoder}.block.{stage}.0", f"{encoder}.block.{stage}.1"):
            for name in ("self.query", "self.key", "self.value", "output.dense"):
                layer(f"{block}.attention.{name}", width, width)
            if stage < 3:
                reduction = (8, 4, 2)[stage]
                layer(f"{block}.attention.self.sr", width, width, reduction, reduction)
                layer(f"{block}.attention.self.layer_norm", width)
            layer(f"{block}.layer_norm_1", width)
            layer(f"{block}.layer_norm_2", width)
            layer(f"{block}.mlp.dense1", 4 * width, width)
            layer(f"{block}.mlp.dwconv.dwconv", 4 * width, 1, 3, 3)
            layer(f"{block}.mlp.dense2", width, 4 * width)
    if segments:
        for stage, width in enumerate((32, 64, 160, 256)):
            layer(f"decode_head.linear_c.{stage}.proj", 256, width)
        layer("decode_head.linear_fuse", 256, 1024, 1, 1, bias=False)
        layer("decode_head.batch_norm", 256)
        state |= {f"decode_head.batch_norm.running_{part}": torch.rand(256) for part in ("mean", "var")}
        layer("decode_head.classifier", 7, 256, 1, 1)
    else:
        layer("classifier", 1000, 256)
    return state


@pytest.mark.parametrize("segments", [True, False])
def test_the_authors_files_on_the_hub_fit(segments: bool, tmp_path: Path) -> None:
    state = hub_file(segments)
    torch.save(state, tmp_path / "pytorch_model.bin")
    loaded = segformer(7, weights=str(tmp_path / "pytorch_model.bin")).state_dict()

    theirs, own = "segformer.encoder.block.2.1.attention", "backbone.block3.1.attn"
    assert torch.equal(loaded[f"{own}.q.bias"], state[f"{theirs}.self.query.bias"])
    assert torch.equal(loaded[f"{own}.kv.weight"][:160], state[f"{theirs}.self.key.weight"])
    assert torch.equal(loaded[f"{own}.kv.weight"][160:], state[f"{theirs}.self.value.weight"])
    assert torch.equal(loaded["backbone.norm4.bias"], state["segformer.encoder.layer_norm.3.bias"])
    if segments:
        assert torch.equal(loaded["decode_head.linear_c4.proj.bias"], state["decode_head.linear_c.3.proj.bias"])
        assert torch.equal(
            loaded["decode_head.linear_fuse.bn.running_var"], state["decode_head.batch_norm.running_var"]
        )


def test_the_features_have_the_declared_channels_and_strides() -> None:
    backbone = on_meta(MiT, "mit_b0")
    features = backbone(torch.empty(1, 3, 65, 97, device="meta"))
    assert [tuple(x.shape[1:]) for x in features] == [(32, 17, 25), (64, 9, 13), (160, 5, 7), (256, 3, 4)]


@pytest.mark.parametrize(("size", "patches"), [((4, 6), (2, 3)), ((5, 7), (2, 3))])
def test_attention_to_patches(size: tuple[int, int], patches: tuple[int, int]) -> None:
    """Head by head and position by position; what does not fill a patch has queries, but is no key."""
    torch.manual_seed(0)
    channels, heads, width = 6, 2, 3
    attention = Attention(channels, heads, reduction=2)
    x = torch.randn(2, *size, channels)
    with torch.no_grad():
        rows, columns = patches
        tokens = torch.stack(
            [
                torch.einsum("oiyx,nyxi->no", attention.sr.weight, x[:, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2])
                for r in range(rows)
                for c in range(columns)
            ],
            dim=1,
        )
        tokens = attention.norm(tokens + attention.sr.bias)
        keys, values = attention.kv(tokens).split(channels, dim=2)
        queries, seen = attention.q(x), torch.zeros_like(x)
        for n in range(2):
            for y in range(size[0]):
                for z in range(size[1]):
                    for head in range(heads):
                        own = slice(head * width, (head + 1) * width)
                        weights = (keys[n, :, own] @ queries[n, y, z, own] / math.sqrt(width)).softmax(0)
                        seen[n, y, z, own] = weights @ values[n, :, own]
        assert torch.allclose(attention(x), attention.proj(seen), atol=1e-5)


def test_the_decoder_fuses_the_concatenated_maps() -> None:
    """Equation 4, as it is written."""
    torch.manual_seed(0)
    decoder = AllMLPDecoder((2, 3, 4, 5), 6, 8).eval()
    nn.init.normal_(decoder.linear_fuse.bn.running_mean)
    features = [torch.randn(2, c, *s) for c, s in ((2, (9, 17)), (3, (5, 9)), (4, (3, 5)), (5, (2, 3)))]
    with torch.no_grad():
        same_size: list[Tensor] = []
        for level, x in reversed(list(enumerate(features, start=1))):
            layer = getattr(decoder, f"linear_c{level}")["proj"]
            unified = torch.einsum("oc,nchw->nohw", layer.weight, x) + layer.bias[:, None, None]
            same_size.append(F.interpolate(unified, size=(9, 17), mode="bilinear", align_corners=False))
        fused = decoder.linear_fuse(torch.cat(same_size, dim=1))
        assert torch.allclose(decoder(features), decoder.linear_pred(fused), atol=1e-5)


def test_stochastic_depth_grows_to_a_tenth_and_is_off_in_evaluation() -> None:
    torch.manual_seed(0)
    model = segformer(3)
    blocks = [block for stage in (1, 2, 3, 4) for block in getattr(model.backbone, f"block{stage}")]
    assert [block.drop_path.p for block in blocks] == pytest.approx([i * 0.1 / 7 for i in range(8)])
    image = torch.randn(1, 3, 33, 65)
    with torch.no_grad():
        model.eval()
        assert torch.equal(model(image)["out"], model(image)["out"])
        always = MiT("mit_b0", stochastic_depth=0.999)
        block = always.train().block4[1]  # the last: as good as always skipped
        x = torch.randn(64, 1, 1, 256)
        skipped = (block(x) == x).all(dim=3).float().mean()
    assert skipped > 0.9
