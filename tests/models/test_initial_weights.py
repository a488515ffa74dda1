"""Weights to start from: from a file or the network, complete or refused with the reason and the way out."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18

from segctl.errors import WeightsError
from segctl_models.backbones.weights import imagenet_url, initialise
from segctl_models.enet import enet
from segctl_models.fcn import fcn
from segctl_models.fcn_vgg import fcn32s


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch hub's cache of this test alone, behind a proxy that refuses: no test depends on a network or uses one."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    path = tmp_path / "resnet18.pth"
    torch.save(resnet18().state_dict(), path)
    return path


def small_fcn(num_classes: int = 3, **options: object) -> torch.nn.Module:
    return fcn(num_classes, backbone="resnet18", **options)  # type: ignore[arg-type]


def pretrained_from(address: str) -> torch.nn.Module:
    model = small_fcn()
    model.backbone.imagenet = address
    return initialise(model, weights=None, pretrained=True)


def test_a_classifier_s_file_fills_the_backbone(classifier: Path) -> None:
    model = small_fcn(weights=str(classifier))
    state = torch.load(classifier, weights_only=True)
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_a_file_of_the_whole_model_fills_all_of_it(tmp_path: Path) -> None:
    state = small_fcn().state_dict()
    torch.save({"model": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "w.pt")
    loaded = small_fcn(weights=str(tmp_path / "w.pt")).state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_a_checkpoint_s_averaged_weights_are_preferred(tmp_path: Path) -> None:
    plain, average = enet(3).state_dict(), enet(3).state_dict()
    torch.save({"step": 7, "model": plain, "ema": average}, tmp_path / "w.pt")
    loaded = enet(3, weights=str(tmp_path / "w.pt")).state_dict()
    assert torch.equal(loaded["initial.conv.weight"], average["initial.conv.weight"])
    torch.save({"step": 7, "model": plain, "ema": None}, tmp_path / "w.pt")
    loaded = enet(3, weights=str(tmp_path / "w.pt")).state_dict()
    assert torch.equal(loaded["initial.conv.weight"], plain["initial.conv.weight"])


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (("model", "model_ema"), "holds several sets of weights: model and model_ema"),
        (("state_dict", "model"), "holds several sets of weights: model and state_dict"),
        (("ema", "state_dict"), "holds several sets of weights: ema and state_dict"),
        (("params",), "does not hold a state dict, but one as params"),
    ],
)
def test_a_file_that_can_be_read_in_several_ways_is_for_the_import(
    entries: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "theirs.pth"
    torch.save({"epoch": 3, **{entry: enet(3).state_dict() for entry in entries}}, path)
    with pytest.raises(WeightsError, match=words) as told:
        enet(3, weights=str(path))
    assert f"`segctl weights import {path} --model MODEL -o OUT`" in told.value.hint


def test_weights_deeper_in_the_file_are_seen(tmp_path: Path) -> None:
    torch.save({"model": enet(3).state_dict(), "nets": {"ema": enet(3).state_dict()}}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"several sets of weights: model and nets\.ema"):
        enet(3, weights=str(tmp_path / "w.pt"))


def test_a_wrapper_s_prefix_is_taken_off_all_names_or_none(tmp_path: Path) -> None:
    state = enet(3).state_dict()
    name = "initial.conv.weight"
    torch.save({**state, f"module.{name}": torch.zeros_like(state[name])}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=rf"1 unexpected \(module\.{re.escape(name)}\)") as told:
        enet(3, weights=str(tmp_path / "w.pt"))
    assert "segctl weights import" in told.value.hint


def test_the_backbone_of_a_whole_model_goes_under_a_new_head(tmp_path: Path) -> None:
    state = {key: value for key, value in small_fcn(21).state_dict().items() if key.startswith("backbone.")}
    torch.save(state, tmp_path / "w.pt")
    loaded = small_fcn(3, weights=str(tmp_path / "w.pt")).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_another_number_of_classes_is_refused_with_both_shapes(tmp_path: Path) -> None:
    torch.save(small_fcn(21).state_dict(), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"classifier\.4\.weight: \(21, 128, 1, 1\) instead of \(3, 128, 1, 1\)"):
        small_fcn(3, weights=str(tmp_path / "w.pt"))


def test_an_incomplete_file_is_refused(classifier: Path) -> None:
    state = torch.load(classifier, weights_only=True)
    del state["layer2.0.conv1.weight"]
    torch.save(state, classifier)
    with pytest.raises(WeightsError, match=r"1 missing \(backbone\.layer2\.0\.conv1\.weight\)"):
        small_fcn(weights=str(classifier))


def test_weights_that_were_made_whole_numbers_are_refused(tmp_path: Path) -> None:
    state = enet(3).state_dict()
    state["initial.conv.weight"] = state["initial.conv.weight"].to(torch.int8)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"1 of no real numbers \(initial\.conv\.weight: int8\)"):
        enet(3, weights=str(tmp_path / "w.pt"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_of_a_training_that_went_astray_are_refused(tmp_path: Path, value: float) -> None:
    state = enet(3).state_dict()
    state["initial.conv.weight"][0, 0, 0, 0] = value
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"1 infinite or not numbers \(initial\.conv\.weight\)"):
        enet(3, weights=str(tmp_path / "w.pt"))


@pytest.mark.parametrize("factory", [small_fcn, enet], ids=["fcn", "enet"])
def test_another_architecture_s_file_is_refused(factory: object, test_data: Path) -> None:
    path = test_data / "weights" / "mobilenetv2_imagenet_dequant_bncal.pth"
    with pytest.raises(WeightsError, match=r"\d+ missing \(.*\) and \d+ unexpected \(.*features\.") as caught:
        factory(3, weights=str(path))  # type: ignore[operator]
    assert str(path) in str(caught.value)


def test_vgg_refuses_mobilenet_although_both_have_features(test_data: Path) -> None:
    path = test_data / "weights" / "mobilenetv2_imagenet_dequant_bncal.pth"
    with pytest.raises(WeightsError, match=r"missing \(backbone\.features\.0\.weight"):
        fcn32s(3, weights=str(path))


class Trap:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_no_code_runs_from_a_file(tmp_path: Path) -> None:
    torch.save({"model": Trap(tmp_path / "sprung")}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"w\.pt cannot be read as PyTorch weights"):
        enet(3, weights=str(tmp_path / "w.pt"))
    assert not (tmp_path / "sprung").exists()


def test_files_that_are_no_state_dict_are_refused(tmp_path: Path) -> None:
    torch.save(enet(3).state_dict(), tmp_path / "cut.pt")
    content = (tmp_path / "cut.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.pt").write_text("not weights")
    (tmp_path / "empty.pt").write_bytes(b"")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({}, tmp_path / "nothing.pt")
    (tmp_path / "folder.pt").mkdir()
    reasons = {
        "cut.pt": "damaged",
        "text.pt": "it is not a file of torch.save",
        "empty.pt": "it is empty",
        "list.pt": "does not hold a state dict",
        "nothing.pt": "does not hold a state dict",
        "folder.pt": "is a folder",
        "absent.pt": "does not exist",
    }
    for name, reason in reasons.items():
        with pytest.raises(WeightsError, match=rf"{name}.*{reason}"):
            enet(3, weights=str(tmp_path / name))


def test_a_failed_download_says_what_to_do(hub: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        small_fcn(pretrained=True)
    message = str(caught.value)
    url = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    assert url in message
    assert str(hub / "resnet18-f37072fd.pth") in message
    assert "pretrained: false" in message
    assert list(hub.iterdir()) == []


def test_the_file_placed_as_the_message_says_is_used(hub: Path, classifier: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        small_fcn(pretrained=True)
    place = re.search(r"Put that file at (\S+),", str(caught.value))
    assert place is not None
    classifier.rename(place[1])
    model = small_fcn(pretrained=True)
    assert torch.equal(model.backbone.conv1.weight, torch.load(place[1], weights_only=True)["conv1.weight"])


def test_a_local_file_goes_before_the_download(classifier: Path) -> None:
    model = small_fcn(pretrained=True, weights=str(classifier))
    assert torch.equal(model.backbone.conv1.weight, torch.load(classifier, weights_only=True)["conv1.weight"])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server of this machine, and the folder it serves."""
    folder = tmp_path / "www"
    folder.mkdir()
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}", folder
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_a_download_is_checked_and_kept(server: tuple[str, Path], hub: Path, classifier: Path) -> None:
    address, folder = server
    digest = hashlib.sha256(classifier.read_bytes()).hexdigest()[:8]
    served = folder / f"resnet18-{digest}.pth"
    served.write_bytes(classifier.read_bytes())
    first = pretrained_from(f"{address}/{served.name}")
    served.unlink()
    again = pretrained_from(f"{address}/{served.name}")
    assert torch.equal(first.backbone.conv1.weight, again.backbone.conv1.weight)
    assert [path.name for path in hub.iterdir()] == [served.name]


def test_a_download_with_other_content_is_refused_and_not_kept(
    server: tuple[str, Path], hub: Path, classifier: Path
) -> None:
    address, folder = server
    (folder / "resnet18-00000000.pth").write_bytes(classifier.read_bytes())
    with pytest.raises(WeightsError, match="invalid hash value"):
        pretrained_from(f"{address}/resnet18-00000000.pth")
    with pytest.raises(WeightsError, match="404"):
        pretrained_from(f"{address}/absent-00000000.pth")
    assert list(hub.iterdir()) == []


def test_the_addresses_are_torchvision_s() -> None:
    assert imagenet_url("vgg16") == "https://download.pytorch.org/models/vgg16-397923af.pth"
    assert imagenet_url("resnet50") == "https://download.pytorch.org/models/resnet50-0676ba61.pth"
