"""`segctl export`: what other programs read from the file gives what the trained model gives, or there is no file."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from installed import install
from programs import Said
from torch import Tensor, nn

import segctl
from segctl.config.load import dump, resolve
from segctl.errors import ConfigError, DataError, ExportError, RunError
from segctl.plugin import dataset_info
from segctl.registry import create_model
from segctl.runs import store
from segctl.runs.run import Run
from segctl_datasets.shapes import Shapes
from segctl_jobs.checkpoint import CheckpointWriter

MODELS = '''
import itertools
import torch
from torch import nn
from torch.nn import functional as F

from segctl_models.backbones.swin import Swin

count = itertools.count()


class Small(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, num_classes, 1)

    def forward(self, image):
        x = self.head(self.down(image))
        return {"out": F.interpolate(x, size=image.shape[-2:], mode="bilinear")}


class Fixed(Small):
    """Knows one size only, to a tracer."""

    def forward(self, image):
        if image.mean() > 0:
            return super().forward(image)
        return super().forward(-image)


class Unstable(Small):
    """Gives something else each time it is called, which a trace cannot hold."""

    def forward(self, image):
        return {"out": super().forward(image)["out"] + next(count)}


class Coarse(Small):
    """Has a total stride of 64, and does something else where that leaves a single column."""

    def forward(self, image):
        x = self.head(self.down(image))
        x = F.avg_pool2d(x, 32, stride=32, ceil_mode=True)
        x = x + 0 if x.shape[-1] == 1 else x
        return {"out": F.interpolate(x, size=image.shape[-2:], mode="bilinear")}


class Windows(Small):
    """A Swin Transformer with two blocks in each stage."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.down = Swin("swin_t")
        del self.down.features[5][2:]
        self.head = nn.Conv2d(96 + 768, num_classes, 1)

    def forward(self, image):
        first, *_, last = self.down(image)
        x = self.head(torch.cat([first, F.interpolate(last, size=first.shape[-2:])], 1))
        return {"out": F.interpolate(x, size=image.shape[-2:], mode="bilinear")}


class Unknown(Small):
    """Has an operation that ONNX has not."""

    def forward(self, image):
        return {"out": torch.special.bessel_j0(super().forward(image)["out"])}


def small(num_classes: int) -> nn.Module:
    return Small(num_classes)


def fixed(num_classes: int) -> nn.Module:
    return Fixed(num_classes)


def unstable(num_classes: int) -> nn.Module:
    return Unstable(num_classes)


def coarse(num_classes: int) -> nn.Module:
    return Coarse(num_classes)


def windows(num_classes: int) -> nn.Module:
    return Windows(num_classes)


def unknown(num_classes: int) -> nn.Module:
    return Unknown(num_classes)
'''
NAMES = ("small", "fixed", "unstable", "coarse", "windows", "unknown")


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An installed distribution with models that are exported in no time."""
    models = {f"toy_{name}": f"toys_to_export:{name}" for name in NAMES}
    folder = install(tmp_path_factory.mktemp("site"), "toys-to-export", {"toys_to_export.py": MODELS}, models=models)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield
    sys.path.remove(str(folder))
    sys.modules.pop("toys_to_export", None)


def trained(model: str, folder: Path, *, ema: bool = False) -> Run:
    """A run as training leaves it, with weights that were drawn."""
    flags = {"dataset.samples": 4, "dataset.eval_samples": 6, "train.workers": 0}
    config = resolve(None, {"model": model, "dataset": "shapes", **flags})
    run = store.create(dump(config), {"kind": "train", "model": model, "dataset": "shapes"}, folder)
    writer = CheckpointWriter(run.checkpoints)
    state = {"step": 7, "best_step": 7, "dataset_info": asdict(dataset_info(Shapes))}
    average = weights(model, 2) if ema else None
    writer.save({**state, "model": weights(model, 1), "ema": average}, best=True)
    writer.wait()
    return run


def weights(name: str, seed: int) -> Mapping[str, Tensor]:
    torch.manual_seed(seed)
    config = resolve(None, {"model": name, "dataset": "shapes"})
    state: dict[str, Tensor] = create_model(config.model, 5).state_dict()
    for key, value in state.items():
        if key.endswith("running_mean"):
            value.uniform_(-0.5, 0.5)
    return state


def expected(name: str, state: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """The logits for uint8 images, normalised as ImageNet's are."""
    config = resolve(None, {"model": name, "dataset": "shapes"})
    model: nn.Module = create_model(config.model, 5).eval()
    model.load_state_dict(state)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        return model((images / 255 - mean[:, None, None]) / std[:, None, None])["out"]


def images(number: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (number, 3, height, width), dtype=torch.uint8, generator=generator)


# --- What other programs read ---


@pytest.mark.usefixtures("toys")
def test_a_program_of_torch_export(tmp_path: Path) -> None:
    run = trained("toy_small", tmp_path)
    exported = segctl.export(run, "torch-export")
    assert exported.path == run.exports / "best.pt2"
    assert exported.size == exported.path.stat().st_size
    files = {"segctl.json": ""}
    program = torch.export.load(exported.path, extra_files=files).module()
    for size in ((1, 33, 65), (5, 64, 32)):
        torch.testing.assert_close(
            program(images(*size)), expected("toy_small", weights("toy_small", 1), images(*size))
        )
    facts = json.loads(files["segctl.json"])
    assert facts["classes"] == ["background", "ring", "square", "triangle", "cross"]
    assert (facts["run"], facts["step"], facts["weights"]) == (run.id, 7, "model")
    assert facts["mean"] == [0.485, 0.456, 0.406]


@pytest.mark.usefixtures("toys")
def test_an_onnx_file(tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    run = trained("toy_small", tmp_path)
    exported = segctl.export(run, "onnx", out=tmp_path / "small.onnx")
    assert exported.path == tmp_path / "small.onnx"
    assert (exported.split, exported.samples) == ("val", 6)
    assert exported.miou is not None
    assert exported.exported_miou == pytest.approx(exported.miou, abs=5e-4)
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    (put,), (got,) = session.get_inputs(), session.get_outputs()
    assert (put.name, put.type, put.shape) == ("image", "tensor(uint8)", ["batch", 3, "height", "width"])
    assert (got.name, got.type, got.shape) == ("logits", "tensor(float)", ["batch", 5, "height", "width"])
    for size in ((1, 33, 65), (5, 64, 32)):
        (logits,) = session.run(None, {"image": images(*size).numpy()})
        torch.testing.assert_close(
            torch.from_numpy(logits),
            expected("toy_small", weights("toy_small", 1), images(*size)),
            rtol=1e-4,
            atol=1e-5,
        )
    facts = {entry.key: entry.value for entry in onnx.load(exported.path).metadata_props}
    assert json.loads(facts["segctl"])["palette"][1] == [230, 159, 0]


@pytest.mark.usefixtures("toys")
def test_weights_alone_are_the_moving_average(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file

    run = trained("toy_small", tmp_path, ema=True)
    exported = segctl.export(run, "safetensors", samples=3)
    assert exported.samples == 3
    state, average = load_file(exported.path), weights("toy_small", 2)
    assert set(state) == set(average)
    assert all(torch.equal(state[name], average[name]) for name in state)
    with safe_open(exported.path, "pt") as file:
        facts = json.loads(file.metadata()["segctl"])
    assert facts["weights"] == "ema"
    assert facts["model"]["name"] == "toy_small"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["enet", "lraspp", "segformer"])
@pytest.mark.parametrize("format", ["torch-export", "onnx"])
def test_shipped_models(model: str, format: str, tmp_path: Path) -> None:
    exported = segctl.export(trained(model, tmp_path), format)
    assert [(size.number, size.height, size.width) for size in exported.sizes] == [(1, 65, 97), (3, 128, 72)]
    assert all(size.difference <= 1e-4 for size in exported.sizes)
    assert exported.miou is not None
    assert exported.exported_miou == pytest.approx(exported.miou, abs=5e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize("format", ["torch-export", "onnx"])
def test_windows_take_any_size(format: str, tmp_path: Path) -> None:
    """At 96x128, of which the program is made, all maps but the deepest are larger than Swin's windows."""
    exported = segctl.export(trained("toy_windows", tmp_path), format, samples=2)
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    else:
        program = torch.export.load(exported.path).module()
    for size in ((1, 32, 32), (1, 33, 33), (2, 256, 256), (1, 240, 180)):
        given = images(*size)
        if format == "onnx":
            logits = torch.from_numpy(session.run(None, {"image": given.numpy()})[0])
        else:
            logits = program(given)
        torch.testing.assert_close(
            logits, expected("toy_windows", weights("toy_windows", 1), given), rtol=1e-4, atol=1e-4
        )


@pytest.mark.usefixtures("toys")
def test_the_table(segctl: Callable[..., Said], tmp_path: Path) -> None:
    run = trained("toy_small", tmp_path)
    said = segctl("export", run.path, "--format", "safetensors", "--samples", "2")
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[1].split() == ["logits", "at", "1x3x65x97,", "relative", "0.0e+00", "1e-04"]
    assert lines[3].startswith("mIoU on 2 images of val, %")
    assert lines[4].startswith(f"{run.exports / 'best.safetensors'} (0.0 MiB)")


# --- What is refused ---


def nothing_left(folder: Path) -> bool:
    return not folder.exists() or not list(folder.iterdir())


@pytest.mark.usefixtures("toys")
def test_an_export_that_differs_is_deleted(tmp_path: Path) -> None:
    run = trained("toy_unstable", tmp_path)
    with pytest.raises(ExportError, match=r"does not equal the model: at 1x3x65x97 its logits differ by"):
        segctl.export(run, "torch-export")
    assert nothing_left(run.exports)


@pytest.mark.usefixtures("toys")
def test_a_program_that_fails_on_the_data_sets_images_is_deleted(tmp_path: Path) -> None:
    run = trained("toy_coarse", tmp_path)
    with pytest.raises(ExportError, match=r"fails on 1 image\(s\) of 64x64: Guard failed"):
        segctl.export(run, "torch-export")
    assert nothing_left(run.exports)


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize(
    ("model", "format", "words"),
    [
        ("toy_fixed", "torch-export", "Model toy_fixed cannot become a program of torch.export for images of any size"),
        pytest.param(
            *("toy_unknown", "onnx", "Model toy_unknown cannot become ONNX .* no translation of prims.bessel_j0 as"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_model_that_cannot_be_exported(model: str, format: str, words: str, tmp_path: Path) -> None:
    run, out = trained(model, tmp_path), tmp_path / "mine"
    out.write_text("earlier")
    with pytest.raises(ExportError, match=words) as raised:
        segctl.export(run, format, out=out)
    assert len(raised.value.message.splitlines()) == 1
    assert out.read_text() == "earlier"
    assert not list(tmp_path.glob(".tmp-*"))
    assert segctl.export(run, "safetensors", samples=0).miou is None


@pytest.mark.usefixtures("toys")
def test_without_the_data_only_logits_can_be_compared(tmp_path: Path) -> None:
    run = trained("toy_small", tmp_path)
    config = run.config_file.read_text().replace("name: shapes", "name: camvid").replace("eval_samples: 6", "")
    lines = [line for line in config.splitlines() if line.strip() not in ("", "size: 64", "samples: 4")]
    run.config_file.write_text("\n".join(lines))
    with pytest.raises(DataError, match="Data set 'camvid'"):
        segctl.export(run, "safetensors", data_root=tmp_path / "nowhere")
    assert nothing_left(run.exports)
    assert segctl.export(run, "safetensors", samples=0).samples is None


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"format": "onxx"}, "'onxx' is not a format; there are .* Did you mean 'onnx'?"),
        ({"format": "onnx", "samples": -1}, "-1 images cannot be compared"),
    ],
)
def test_arguments_that_mean_nothing(arguments: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        segctl.export(trained("toy_small", tmp_path), **arguments)


@pytest.mark.usefixtures("toys")
def test_places_where_no_file_can_be(tmp_path: Path) -> None:
    run = trained("toy_small", tmp_path)
    with pytest.raises(ExportError, match="is a folder"):
        segctl.export(run, "safetensors", out=tmp_path)
    with pytest.raises(ExportError, match="There is no folder"):
        segctl.export(run, "safetensors", out=tmp_path / "absent" / "a.safetensors")


@pytest.mark.usefixtures("toys")
def test_the_runs_own_checkpoint_is_not_replaced(tmp_path: Path) -> None:
    run, other = trained("toy_small", tmp_path), trained("toy_small", tmp_path)
    for owner in (run, other):
        best = owner.checkpoints / "best.pt"
        before = best.read_bytes()
        with pytest.raises(RunError, match=rf"in the folder of run {owner.id}.* name a place in {owner.exports},"):
            segctl.export(run, "safetensors", out=best)
        assert best.read_bytes() == before
    exported = segctl.export(run, "safetensors", samples=0)
    assert segctl.export(run, "safetensors", samples=0, out=exported.path).path == exported.path


@pytest.mark.usefixtures("toys")
def test_a_missing_extra_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained("toy_small", tmp_path)
    monkeypatch.setattr(importlib.import_module("segctl.export"), "find_spec", lambda package: None)
    with pytest.raises(ExportError) as raised:
        segctl.export(run, "onnx")
    assert str(raised.value) == (
        "onnx needs onnx, onnxscript and onnxruntime. Install what export needs: pip install 'segctl[export]'"
    )
