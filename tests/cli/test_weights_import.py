"""`segctl weights import`: what it writes gives the logits of the model that the file was saved from."""

from __future__ import annotations

import argparse
import json
import os
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from programs import Said
from torch import Tensor, nn

import segctl
from segctl.config.schema import Plugin
from segctl.errors import ConfigError, SegctlError, WeightsError
from segctl.registry import create_model

IMAGE = torch.rand(2, 3, 65, 97, generator=torch.Generator().manual_seed(0))


def random_model(name: str, num_classes: int, **options: Any) -> nn.Module:
    """With statistics of its own, so that a BatchNorm in a wrong place shows."""
    torch.manual_seed(7)
    return _shaken(create_model(Plugin(name=name, options=options), num_classes))


def _shaken(model: nn.Module) -> nn.Module:
    for name, value in model.state_dict().items():
        if name.endswith("running_mean"):
            value.uniform_(-0.5, 0.5)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    return model.eval()


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model.eval()(IMAGE)["out"]


def start_from(weights: Path, name: str, num_classes: int, **options: Any) -> nn.Module:
    """The model as a training makes it with `--model.weights`."""
    return create_model(Plugin(name=name, options={**options, "weights": str(weights)}), num_classes)


def renamed(state: Mapping[str, Tensor], *rules: tuple[str, str]) -> OrderedDict[str, Tensor]:
    found: OrderedDict[str, Tensor] = OrderedDict()
    for name, value in state.items():
        for old, new in rules:
            name = name.replace(old, new, 1) if name.startswith(old) else name
        found[name] = value
    return found


# --- What is brought in ---


@pytest.mark.parametrize(
    "name",
    [
        "lraspp_mobilenet_v3_large",
        pytest.param("fcn_resnet50", marks=pytest.mark.slow),
        pytest.param("deeplabv3_resnet50", marks=pytest.mark.slow),
    ],
)
def test_torchvisions_models_give_identical_logits(name: str, tmp_path: Path) -> None:
    aux = {} if name.startswith("lraspp") else {"aux_loss": True}
    theirs = _shaken(torchvision.models.get_model(name, weights=None, weights_backbone=None, **aux))
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    own, _, backbone = name.partition("_")
    report = segctl.import_weights(
        tmp_path / "theirs.pth", own, out=tmp_path / "ours.pt", options={"backbone": backbone}
    )
    assert report.complete
    assert report.num_classes == 21
    assert {entry.how for entry in report.entries} == {"exact"}
    assert torch.equal(logits(start_from(tmp_path / "ours.pt", own, 21, backbone=backbone)), logits(theirs))


def test_a_model_whose_names_are_all_others(tmp_path: Path) -> None:
    theirs = random_model("enet", 11)
    layers: dict[str, str] = {}
    state = OrderedDict()
    for name, value in theirs.state_dict().items():
        layer, _, ending = name.rpartition(".")
        state[f"module.{layers.setdefault(layer, f'encoder_{len(layers)}')}.{ending}"] = value
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "theirs.pth.tar")
    report = segctl.import_weights(tmp_path / "theirs.pth.tar", "enet", out=tmp_path / "ours.pt")
    assert report.num_classes == 11
    assert {entry.how for entry in report.entries} == {"by order"}
    assert any("by the order and shapes of the layers" in notice for notice in report.notices)
    assert torch.equal(logits(start_from(tmp_path / "ours.pt", "enet", 11)), logits(theirs))


def test_the_reference_projects_checkpoint(tmp_path: Path) -> None:
    theirs = random_model("fcn", 4, backbone="resnet18")
    rules = (("backbone.", "pretrained."), ("classifier.", "head.block."), ("aux_classifier.", "auxlayer.block."))
    state = renamed(theirs.state_dict(), *rules)
    state["pretrained.fc.weight"], state["pretrained.fc.bias"] = torch.zeros(1000, 512), torch.zeros(1000)
    torch.save(state, tmp_path / "fcn_resnet18_pascal_voc.pth")
    report = segctl.import_weights(
        tmp_path / "fcn_resnet18_pascal_voc.pth", "fcn", out=tmp_path / "ours.pt", options={"backbone": "resnet18"}
    )
    assert {entry.how for entry in report.entries} == {"renamed"}
    assert report.unused == ("pretrained.fc.weight", "pretrained.fc.bias")
    ours = start_from(tmp_path / "ours.pt", "fcn", 4, backbone="resnet18")
    assert torch.equal(logits(ours), logits(theirs))
    assert torch.equal(ours.state_dict()["aux_classifier.4.bias"], theirs.state_dict()["aux_classifier.4.bias"])


def lightning_checkpoint(unet: nn.Module) -> dict[str, Any]:
    """As a Lightning module around segmentation_models_pytorch's Unet saves itself, its hyper-parameters too."""
    state = OrderedDict()
    for name, value in unet.state_dict().items():
        name = name.replace("backbone.", "encoder.").replace("classifier.", "segmentation_head.0.")
        name = re.sub(r"decoder\.(\d)\.([01])\.", lambda at: f"decoder.blocks.{at[1]}.conv{int(at[2]) + 1}.", name)
        state[f"model.{name}"] = value
    assert "model.decoder.blocks.4.conv2.1.running_var" in state
    state["loss_fn.weight"] = torch.ones(4)
    return {"state_dict": state, "hyper_parameters": argparse.Namespace(lr=0.1), "optimizer_states": [{"state": {}}]}


def test_a_lightning_checkpoint_that_holds_more_than_tensors(tmp_path: Path) -> None:
    theirs = random_model("unet", 4, backbone="resnet18")
    torch.save(lightning_checkpoint(theirs), tmp_path / "last.ckpt")
    report = segctl.import_weights(
        tmp_path / "last.ckpt", "unet", out=tmp_path / "ours.pt", options={"backbone": "resnet18"}
    )
    assert report.complete
    assert report.unused == ("loss_fn.weight",)
    assert "argparse.Namespace" in report.notices[0]
    assert torch.equal(logits(start_from(tmp_path / "ours.pt", "unet", 4, backbone="resnet18")), logits(theirs))


def test_a_safetensors_file(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    theirs = random_model("enet", 3)
    save_file({f"net.{name}": value for name, value in theirs.state_dict().items()}, tmp_path / "model.safetensors")
    segctl.import_weights(tmp_path / "model.safetensors", "enet", out=tmp_path / "ours.pt")
    assert torch.equal(logits(start_from(tmp_path / "ours.pt", "enet", 3)), logits(theirs))


def test_the_moving_average_goes_before_the_weights(tmp_path: Path) -> None:
    theirs = random_model("enet", 3)
    noise = {name: torch.zeros_like(value) for name, value in theirs.state_dict().items()}
    torch.save({"model": noise, "model_ema": theirs.state_dict(), "epoch": 2}, tmp_path / "theirs.pth")
    report = segctl.import_weights(tmp_path / "theirs.pth", "enet", out=tmp_path / "ours.pt")
    assert report.notices[0] == "theirs.pth holds several sets of weights; model_ema was taken, not model."
    assert torch.equal(logits(start_from(tmp_path / "ours.pt", "enet", 3)), logits(theirs))


def test_the_file_says_where_it_comes_from(tmp_path: Path) -> None:
    torch.save(random_model("enet", 3).state_dict(), tmp_path / "theirs.pth")
    segctl.import_weights(tmp_path / "theirs.pth", "enet", out=tmp_path / "ours.pt")
    origin = torch.load(tmp_path / "ours.pt", weights_only=True)["segctl"]
    assert origin["model"] == {"name": "enet", "weights": None}
    assert (origin["file"], origin["num_classes"], origin["random"]) == ("theirs.pth", 3, [])


# --- What a state dict does not tell ---


def test_a_foreign_file_does_not_tell_dilations_also_where_all_names_match(
    segctl: Callable[..., Said], tmp_path: Path
) -> None:
    torch.save(random_model("enet", 3).state_dict(), tmp_path / "theirs.pth")
    argv = ("weights", "import", "--model", "enet")
    said = segctl(*argv, tmp_path / "theirs.pth", "-o", tmp_path / "ours.pt")
    assert "note: A state dict does not tell dilations, strides, resizing" in said.err
    assert "note: A state dict" not in segctl(*argv, tmp_path / "ours.pt", "-o", tmp_path / "again.pt").err


MOBILE = {"backbone": "mobilenet_v3_small"}


def test_the_options_of_which_the_weights_are_are_compared(tmp_path: Path) -> None:
    """At an output stride of 8 the same weights stand in dilated convolutions."""
    torch.save(random_model("lraspp", 3, **MOBILE).state_dict(), tmp_path / "theirs.pth")
    segctl.import_weights(tmp_path / "theirs.pth", "lraspp", out=tmp_path / "16.pt", options=MOBILE)
    told = "16.pt is of lraspp with output_stride 16 instead of 8: the weights fit, the results differ."
    other = {**MOBILE, "output_stride": 8}
    report = segctl.import_weights(tmp_path / "16.pt", "lraspp", out=tmp_path / "8.pt", options=other)
    assert report.notices == (told,)
    assert segctl.import_weights(tmp_path / "16.pt", "lraspp", out=tmp_path / "o.pt", options=MOBILE).notices == ()


def test_they_are_also_before_a_training_that_starts_from_such_a_file(
    segctl: Callable[..., Said], tmp_path: Path
) -> None:
    torch.save(random_model("lraspp", 5, **MOBILE).state_dict(), tmp_path / "theirs.pth")
    lraspp = ("--model", "lraspp", "--model.backbone", MOBILE["backbone"])
    assert segctl("weights", "import", tmp_path / "theirs.pth", *lraspp, "-o", tmp_path / "16.pt").code == 0
    train = ("train", *lraspp, "--dataset", "shapes", "--dry-run", "--model.weights")
    told = "16.pt is of lraspp with output_stride 16 instead of 8: the weights fit, the results differ."
    assert told in segctl(*train, tmp_path / "16.pt", "--model.output_stride", 8).err
    for file in ("16.pt", "theirs.pth"):
        said = segctl(*train, tmp_path / file)
        assert said.code == 0, said.err
        assert "the results differ" not in said.err


# --- What is refused ---


@pytest.fixture
def other_classes(tmp_path: Path) -> Path:
    torch.save(random_model("fcn", 6, backbone="resnet18", aux=False).state_dict(), tmp_path / "six.pth")
    return tmp_path / "six.pth"


OPTIONS = ("--model", "fcn", "--model.backbone", "resnet18", "--model.aux=false")


def test_another_number_of_classes(other_classes: Path, segctl: Callable[..., Said], tmp_path: Path) -> None:
    said = segctl("weights", "import", other_classes, *OPTIONS, "--num-classes", "4", "-o", tmp_path / "ours.pt")
    assert said.code == 1
    assert "classifier.4.weight: 6x128x1x1 instead of 4x128x1x1" in said.out
    assert "It is for 6 classes, not 4: --num-classes 6 takes all of it, --partial all but these." in said.err
    assert not (tmp_path / "ours.pt").exists()


def test_partial_takes_the_rest_and_says_what_stays_random(
    other_classes: Path, segctl: Callable[..., Said], tmp_path: Path
) -> None:
    argv = ["weights", "import", other_classes, *OPTIONS, "--num-classes", "4", "--partial", "--json"]
    said = segctl(*argv, "-o", tmp_path / "ours.pt")
    assert said.code == 0
    report = json.loads(said.out)
    assert not report["complete"]
    random = [entry["name"] for entry in report["entries"] if entry["how"] == "misshaped"]
    assert random == ["classifier.4.weight", "classifier.4.bias"]
    assert "stay random: classifier.4.weight, classifier.4.bias" in said.err
    ours = start_from(tmp_path / "ours.pt", "fcn", 4, backbone="resnet18", aux=False).state_dict()
    theirs = torch.load(other_classes, weights_only=True)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if name not in random)
    assert torch.isfinite(ours["classifier.4.weight"]).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backbone": "resnet18"}, "It has no auxiliary head: --model.aux false does without"),
        # Eight blocks more, each of two convolutions and two BatchNorms of 4.
        ({"backbone": "resnet34", "aux": False}, "of its 187 entries 80 not in the file"),
        ({"backbone": "resnet18", "weights": "x.pth"}, "model.weights: the weights are those of the file"),
        ({"backbone": "resnet19"}, "model.backbone: 'resnet19' is not one of"),
    ],
)
def test_another_model_than_the_files(options: dict[str, Any], words: str, other_classes: Path, tmp_path: Path) -> None:
    with pytest.raises(SegctlError, match=words):
        segctl.import_weights(other_classes, "fcn", options=options, out=tmp_path / "ours.pt")
    assert not (tmp_path / "ours.pt").exists()


def test_a_deeper_models_file_is_not_cut_to_size(tmp_path: Path) -> None:
    torch.save(random_model("fcn", 3, backbone="resnet34", aux=False).state_dict(), tmp_path / "deep.pth")
    options = {"backbone": "resnet18", "aux": False}
    with pytest.raises(WeightsError, match=r"the file has 80 more beside them \(backbone\.layer1\.2\.conv1"):
        segctl.import_weights(tmp_path / "deep.pth", "fcn", options=options, out=tmp_path / "ours.pt")


def test_nothing_that_matches_is_refused_partial_or_not(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.zeros(5, 4, 3, 3), "a.bias": torch.zeros(5)}, tmp_path / "theirs.pth")
    with pytest.raises(WeightsError, match=r"Nothing in .* matches model enet"):
        segctl.import_weights(tmp_path / "theirs.pth", "enet", num_classes=2, partial=True, out=tmp_path / "o.pt")
    with pytest.raises(WeightsError, match=r"theirs.pth is not of model enet: none of its \d+ entries match\."):
        segctl.import_weights(tmp_path / "theirs.pth", "enet", out=tmp_path / "o.pt")


def test_another_models_file_is_told_by_how_little_matches(tmp_path: Path) -> None:
    torch.save(random_model("lraspp", 21).state_dict(), tmp_path / "lraspp.pth")
    with pytest.raises(WeightsError, match=r"lraspp.pth is not of model fcn: none of its \d+ entries match\.") as told:
        segctl.import_weights(tmp_path / "lraspp.pth", "fcn", out=tmp_path / "o.pt")
    assert "segctl plugins show fcn" in str(told.value.hint)

    torch.save(dict(list(random_model("enet", 3).state_dict().items())[:7]), tmp_path / "initial.pth")
    for classes in (None, 21):
        with pytest.raises(WeightsError, match=r"initial.pth is not of model enet: 6 of its \d+ entries match\."):
            segctl.import_weights(tmp_path / "initial.pth", "enet", num_classes=classes, out=tmp_path / "o.pt")


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2"])
def test_a_classifiers_file_has_the_backbone_alone(backbone: str, tmp_path: Path) -> None:
    file = tmp_path / "classifier.pth"
    torch.save(torchvision.models.get_model(backbone, weights=None).state_dict(), file)
    options = {"backbone": backbone}
    for classes in (None, 4):
        with pytest.raises(WeightsError, match="has the backbone of model bisenet alone") as told:
            segctl.import_weights(file, "bisenet", options=options, num_classes=classes, out=tmp_path / "o.pt")
        assert f"--model.weights {file}" in str(told.value.hint)
    start_from(file, "bisenet", 4, **options)


def test_a_segmentation_files_backbone_is_not_all_it_has(tmp_path: Path) -> None:
    torch.save(random_model("lraspp", 21, backbone="mobilenet_v2").state_dict(), tmp_path / "lraspp.pth")
    options = {"backbone": "mobilenet_v2", "output_stride": 16}
    with pytest.raises(WeightsError, match=r"lraspp.pth is not all of model fcn"):
        segctl.import_weights(tmp_path / "lraspp.pth", "fcn", options=options, num_classes=21, out=tmp_path / "o.pt")


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    state = random_model("lraspp", 5).state_dict()
    name = next(name for name, value in state.items() if value.dim() == 4)
    state[name][0, 0, 0, 0] = float("nan")
    torch.save(state, tmp_path / "spoilt.pth")

    with pytest.raises(WeightsError, match=rf"not numbers, in {re.escape(name)}\."):
        segctl.import_weights(tmp_path / "spoilt.pth", "lraspp", out=tmp_path / "out.pt")

    assert not (tmp_path / "out.pt").exists()


def test_whole_numbers_and_negative_variances_are_no_weights(tmp_path: Path) -> None:
    state = random_model("enet", 3).state_dict()
    whole = {name: value.to(torch.int32) for name, value in state.items()}
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    torch.save(whole, tmp_path / "whole.pth")
    with pytest.raises(WeightsError, match=rf"int32 instead of real numbers in {names[0]} and {len(names) - 1} more\."):
        segctl.import_weights(tmp_path / "whole.pth", "enet", out=tmp_path / "out.pt")

    variance = next(name for name in state if name.endswith("running_var"))
    torch.save({**state, variance: -state[variance]}, tmp_path / "negative.pth")
    with pytest.raises(WeightsError, match=rf"negative variances in {re.escape(variance)}\."):
        segctl.import_weights(tmp_path / "negative.pth", "enet", partial=True, out=tmp_path / "out.pt")

    assert not (tmp_path / "out.pt").exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_taken(dtype: torch.dtype, tmp_path: Path) -> None:
    state = random_model("enet", 3).to(dtype).state_dict()
    torch.save(state, tmp_path / "theirs.pth")
    segctl.import_weights(tmp_path / "theirs.pth", "enet", out=tmp_path / "ours.pt")
    ours = torch.load(tmp_path / "ours.pt", weights_only=True)["model"]
    assert all(torch.equal(ours[name].to(dtype), state[name]) for name in state if "num_batches" not in name)
    assert {value.dtype for name, value in ours.items() if "num_batches" not in name} == {torch.float32}


def test_a_file_that_leaves_the_number_of_classes_open(tmp_path: Path) -> None:
    state = random_model("enet", 3).state_dict()
    torch.save({name: value for name, value in state.items() if "fullconv" not in name}, tmp_path / "headless.pth")
    with pytest.raises(ConfigError, match=r"headless.pth do not say how many classes"):
        segctl.import_weights(tmp_path / "headless.pth", "enet", out=tmp_path / "o.pt")


def test_a_folder_that_is_not_there_is_told_first(segctl: Callable[..., Said], tmp_path: Path) -> None:
    absent = tmp_path / "absent" / "ours.pt"
    said = segctl("weights", "import", tmp_path / "unread.pth", "--model", "enet", "-o", absent)
    assert (said.code, said.out) == (1, "")
    assert f"{absent} cannot be written: there is no folder {absent.parent}." in said.err.replace("\n", " ")
    assert f"{tmp_path} cannot be written: it is a folder." in segctl(
        "weights", "import", tmp_path / "unread.pth", "--model", "enet", "-o", tmp_path
    ).err.replace("\n", " ")


@pytest.mark.parametrize("link", [None, os.symlink, os.link], ids=["itself", "symbolic link", "hard link"])
def test_the_file_itself_is_not_replaced(link: Callable[[Path, Path], None] | None, tmp_path: Path) -> None:
    file, out = tmp_path / "theirs.pth", tmp_path / "theirs.pth" if link is None else tmp_path / "link.pt"
    torch.save({"state_dict": random_model("enet", 3).state_dict(), "epoch": 3}, file)
    if link is not None:
        link(file, out)
    before = file.read_bytes()
    with pytest.raises(WeightsError, match=rf"{out} is the file that is imported; it is not replaced\."):
        segctl.import_weights(file, "enet", out=out)
    assert file.read_bytes() == out.read_bytes() == before


class Evil:
    def __init__(self, call: tuple[Callable[..., object], tuple[object, ...]]) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def test_no_code_of_a_file_is_run(tmp_path: Path) -> None:
    state, trace = random_model("enet", 3).state_dict(), tmp_path / "was-here"
    torch.save({"state_dict": state, "more": Evil((eval, (f"open({str(trace)!r}, 'w')",)))}, tmp_path / "evil.pth")
    segctl.import_weights(tmp_path / "evil.pth", "enet", out=tmp_path / "ours.pt")  # the weights, and nothing else
    torch.save({"state_dict": state, "more": Evil((os.system, (f"touch {trace}",)))}, tmp_path / "worse.pth")
    with pytest.raises(WeightsError, match="cannot be read"):
        segctl.import_weights(tmp_path / "worse.pth", "enet", out=tmp_path / "ours.pt")
    assert not trace.exists()


def test_files_that_hold_no_state_dict(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "damaged.pth").write_bytes(b"PK\x03\x04 nonsense")
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:  # how a TorchScript program is told
        archive.writestr("program/constants.pkl", b"")
    torch.save({"epoch": 3, "metrics": [0.5]}, tmp_path / "empty.pth")
    (tmp_path / "page.pth").write_text("\n<!DOCTYPE html><title>Sign in</title>")
    (tmp_path / "pointer.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    save_file({"weight": torch.zeros(1)}, tmp_path / "renamed.pth")
    (tmp_path / "notes.pth").write_text("to be filled in")
    for name, words in {
        "damaged.pth": "cannot be read",
        "program.pt": "is a TorchScript program",
        "empty.pth": "holds no state dict",
        "page.pth": "is a web page",
        "pointer.pth": "git lfs pull",
        "renamed.pth": r"the ending \.safetensors",
        "notes.pth": r"is not a file of torch\.save\. .*torch\.save\(model\.state_dict\(\)",
        "absent.pth": "does not exist",
    }.items():
        with pytest.raises(WeightsError, match=words):
            segctl.import_weights(tmp_path / name, "enet", out=tmp_path / "ours.pt")


def test_the_table_has_a_row_for_each_part(segctl: Callable[..., Said], tmp_path: Path) -> None:
    torch.save(random_model("enet", 3).state_dict(), tmp_path / "theirs.pth")
    said = segctl("weights", "import", tmp_path / "theirs.pth", "--model", "enet", "-o", tmp_path / "ours.pt")
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0].split() == ["PART", "ENTRIES", "EXACT"]
    # An initial block of a convolution, a BatchNorm of 4 and a PReLU; a last convolution with a bias.
    assert lines[1].split() == ["initial", "6", "6"]
    assert lines[-1].split() == ["fullconv", "2", "2"]
    assert "is for --model.weights" in said.err
