"""What `segctl bench` says of models whose figures are known: by hand, or from torchvision's own records."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest
import torch
from installed import install
from torch import Tensor, nn
from torchvision import models

import segctl
from segctl.bench import Benchmark
from segctl.config.load import resolve_model
from segctl.errors import LaunchError, PluginError
from segctl_jobs.bench.flops import forward_flops, shapes_only
from segctl_jobs.bench.subject import Subject, torchvision_subject

MEBIBYTE = 2**20

PLUGINS = '''
import time
import torch
from torch import nn


class Known(nn.Module):
    """Sleeps for 10 ms and then holds 128 MiB; in training 30 ms and 320 MiB."""

    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Conv2d(3, num_classes, 1)

    def forward(self, image):
        time.sleep(0.03 if self.training else 0.01)
        held = torch.ones((320 if self.training else 128) * 2**18)
        return self.head(image) + 0 * held[0]


def known(num_classes: int):
    """Takes its time and memory."""
    return Known(num_classes)


def faulty(num_classes: int):
    """Takes images of one size only."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3, num_classes))


def greedy(num_classes: int):
    """Wants a tebibyte of memory in training."""

    class Greedy(Known):
        def forward(self, image):
            return self.head(image) + (torch.ones(2**60).sum() if self.training else 0)

    return Greedy(num_classes)
'''


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models above, as if they were installed in it."""
    models = {name: f"bench_toys:{name}" for name in ("known", "faulty", "greedy")}
    return install(tmp_path_factory.mktemp("site"), "bench-toys", {"bench_toys.py": PLUGINS}, models=models)


class Clock:
    """Time that passes only where it is slept, and 10 ms at each look at it."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def perf_counter(self) -> float:
        self.now += 0.01
        return self.now


def run(folder: Path, *names: str, batch_size: int = 3, amp: bool = False) -> Benchmark:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setattr(time, "sleep", clock.sleep)
        patch.setattr(time, "perf_counter", clock.perf_counter)
        return segctl.bench(
            names,
            size=(32, 48),
            batch_size=batch_size,
            device="cpu",
            amp=amp,
            yardstick="lraspp_mobilenet_v3_large",
            seconds=0.05,
        )


@pytest.fixture(scope="module")
def benchmark(installed: Path) -> Benchmark:
    return run(installed, "known", "known")


@pytest.mark.slow
class TestKnownModel:
    def test_the_yardstick_comes_first_and_a_model_that_is_named_twice_once(self, benchmark: Benchmark) -> None:
        assert [model.name for model in benchmark.models] == ["lraspp_mobilenet_v3_large", "known"]
        assert [model.yardstick for model in benchmark.models] == [True, False]
        assert benchmark.models[0].forward_ratio == benchmark.models[0].training_ratio == 1

    def test_throughput_counts_images_in_blocks_of_the_time_that_was_asked_for(self, benchmark: Benchmark) -> None:
        yardstick, known = benchmark.models

        # One step takes 20 ms and 40 ms with the look at the clock, so 2 and 1 of them make the 50 ms, nearly.
        assert known.forward == pytest.approx(2 * 3 / (2 * 0.01 + 0.01))
        assert known.training == pytest.approx(3 / (0.03 + 0.01))
        assert yardstick.forward == pytest.approx(5 * 3 / 0.01)
        assert yardstick.training == pytest.approx(5 * 3 / 0.01)

    def test_ratios_are_over_the_yardstick(self, benchmark: Benchmark) -> None:
        yardstick, known = benchmark.models

        assert known.forward_ratio == pytest.approx(known.forward / yardstick.forward)
        assert known.training_ratio == pytest.approx(known.training / yardstick.training)

    def test_memory_is_what_the_model_holds(self, benchmark: Benchmark) -> None:
        known = benchmark.models[1]

        assert known.forward_memory / MEBIBYTE == pytest.approx(128, abs=16)
        assert known.training_memory / MEBIBYTE == pytest.approx(320, abs=16)

    def test_parameters_and_operations_are_counted(self, benchmark: Benchmark) -> None:
        yardstick, known = benchmark.models

        assert known.parameters == 3 * 19 + 19
        assert known.gflops == pytest.approx(2 * 3 * 19 * 32 * 48 / 1e9)
        assert yardstick.parameters == 3_221_538 - 2 * (40 + 128 + 2)  # as published, with 19 classes instead of 21


@pytest.mark.slow
def test_the_order_in_memory_is_that_of_a_job(installed: Path, benchmark: Benchmark) -> None:
    assert benchmark.channels_last
    assert not run(installed, "known", amp=True).channels_last, "bf16 on a CPU"


@pytest.mark.slow
def test_a_model_that_fails_is_one_sentence(installed: Path) -> None:
    with pytest.raises(PluginError, match=r"The model faulty fails on 3 images of 32x48: RuntimeError: "):
        run(installed, "faulty")
    with pytest.raises(PluginError, match=r"The model faulty fails on 1 image of 32x48: "):
        run(installed, "faulty", batch_size=1)
    with pytest.raises(LaunchError, match=r"The model greedy needs more memory .* smaller --batch"):
        run(installed, "greedy")


@pytest.mark.parametrize(
    "name", ["fcn_resnet50", "deeplabv3_resnet101", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"]
)
def test_operations_are_twice_the_multiply_adds_that_torchvision_publishes(name: str) -> None:
    """Its records are of 520x520 images, with the auxiliary head."""
    published: float = models.get_model_weights(name)["DEFAULT"].meta["_ops"]
    options = {} if name.startswith("lraspp") else {"aux_loss": True}

    with shapes_only(
        lambda: models.get_model(name, weights=None, weights_backbone=None, num_classes=21, **options)
    ) as model:
        flops = forward_flops(model, (520, 520))

    assert flops / 2e9 == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize(("theirs", "ours"), [("fcn_resnet50", "fcn"), ("deeplabv3_resnet50", "deeplabv3")])
def test_the_yardstick_computes_its_auxiliary_head_in_training_alone(theirs: str, ours: str) -> None:
    """The same network as ours has the same figures; ours is without that head in evaluation."""
    subjects = torchvision_subject(theirs), Subject(resolve_model({"model": ours}))
    flops, parameters = [], []
    for subject in subjects:
        with shapes_only(partial(subject.create, 19)) as model:
            parameters.append(sum(parameter.numel() for parameter in model.parameters()))
            flops.append(forward_flops(model, (64, 96)))
            outputs = model.train()(torch.empty(2, 3, 64, 96))
            assert set(outputs) == {"out", "aux"}

    assert flops[0] == flops[1]
    assert parameters[0] == parameters[1]


def test_what_the_yardstick_gives_in_evaluation_is_torchvisions() -> None:
    model = torchvision_subject("deeplabv3_mobilenet_v3_large").create(5).eval()
    image = torch.randn(1, 3, 33, 47)

    with torch.no_grad():
        found, expected = model(image), model.model(image)

    assert torch.equal(found["out"], expected["out"])


def test_attention_is_counted() -> None:
    class Attention(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            tokens = image.flatten(2).transpose(1, 2)
            return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)

    tokens = 16 * 24

    with shapes_only(Attention) as model:
        flops = forward_flops(model, (16, 24))

    assert flops == 2 * 6 * tokens**2  # each token with each: 3 multiply-adds for the weights, 3 for the sum


def test_operations_of_a_large_image_need_no_memory() -> None:
    """Its features alone would take a terabyte."""
    with shapes_only(lambda: nn.Conv2d(3, 8, 3, padding=1)) as model:
        flops = forward_flops(model, (2**17, 2**18))

    assert flops == 2 * 3 * 8 * 9 * 2**35
