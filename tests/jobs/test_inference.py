"""Masks against plain computations on the whole canvas; what the network is shown; and how much memory it takes."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from segctl.config.schema import Evaluation, Input
from segctl.errors import PluginError, SegctlError
from segctl_jobs.inference import is_tiled, normalize, predict_mask, window_starts
from segctl_models.enet import enet

CPU = torch.device("cpu")


def predict(model: nn.Module, image: np.ndarray, num_classes: int, **options: object) -> np.ndarray:
    flip_pairs = options.pop("flip_pairs", ())
    amp = options.pop("amp", None)
    return predict_mask(
        model.eval(),
        image,
        num_classes=num_classes,
        settings=Evaluation(**options),
        input=Input(),
        device=CPU,
        flip_pairs=flip_pairs,
        amp=amp,
    )


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth blobs, so that classes form regions."""
    coarse = np.random.default_rng(seed).integers(
        0, 256, (max(2, height // 16), max(2, width // 16), 3), dtype=np.uint8
    )
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


class Small(nn.Module):
    """A small network with context, so that borders and windows matter."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.first = nn.Conv2d(3, 12, 5, padding=4, dilation=2)
            self.last = nn.Conv2d(12, num_classes, 3, padding=1)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return 3 * self.last(F.relu(self.first(x)))


class Pointwise(nn.Module):
    """Each pixel's class depends on that pixel alone, so that windows and tiles must not change anything."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, -x.sum(dim=1, keepdim=True)], dim=1)


# --- normalisation ---


def test_normalisation_is_that_of_its_definition() -> None:
    images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    settings = Input(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    result = normalize(images, settings)
    assert result.dtype == torch.float32
    mean, std = np.array(settings.mean)[:, None, None], np.array(settings.std)[:, None, None]
    expected = (images.numpy().astype(np.float64) / 255 - mean) / std
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)


def test_normalisation_keeps_channels_last() -> None:
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8).to(memory_format=torch.channels_last)
    assert normalize(images, Input()).is_contiguous(memory_format=torch.channels_last)


def test_normalisation_leaves_its_argument_alone() -> None:
    images = torch.full((1, 3, 2, 2), 7, dtype=torch.uint8)
    normalize(images, Input())
    assert (images == 7).all()


# --- where windows lie ---


def test_windows_of_a_case_worked_out_by_hand() -> None:
    # stride 4 * (1 - 0.5) = 2; the last start is 9 - 4
    assert window_starts(9, 4, 0.5) == (0, 2, 4, 5)
    assert window_starts(8, 4, 0.0) == (0, 4)
    assert window_starts(3, 4, 0.5) == (0,)
    assert window_starts(4, 4, 0.5) == (0,)


@pytest.mark.parametrize("overlap", [0, 0.33, 0.5, 0.9])
@pytest.mark.parametrize("window", [1, 7, 32])
@pytest.mark.parametrize("length", [1, 6, 33, 64, 101])
def test_windows_cover_everything_share_enough_and_stay_inside(length: int, window: int, overlap: float) -> None:
    starts = window_starts(length, window, overlap)
    assert starts[0] == 0
    assert starts[-1] == max(0, length - window)
    for start, following in itertools.pairwise(starts):
        assert start < following
        shared = start + window - following
        assert shared >= 0
        assert shared >= window * overlap - 1e-9 or following == start + 1


# --- one view ---


def test_a_whole_image_is_the_arg_max_of_its_logits() -> None:
    model, image = Small(5), photograph(90, 131)
    x = (torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255 - torch.tensor(Input().mean).view(3, 1, 1)) / (
        torch.tensor(Input().std).view(3, 1, 1)
    )
    expected = model(x)[0].argmax(0).numpy()
    predicted = predict(model, image, 5)
    assert predicted.shape == (90, 131)
    assert predicted.dtype == np.uint8
    assert (predicted != expected).mean() < 1e-3  # rounding may decide between two classes that are equal
    assert len(np.unique(predicted)) >= 3


def test_a_model_that_returns_a_dict() -> None:
    class Auxiliary(Small):
        def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
            return {"out": super().forward(x), "aux": torch.zeros(1)}

    image = photograph(64, 64)
    assert np.array_equal(predict(Auxiliary(4), image, 4), predict(Small(4), image, 4))


def test_more_classes_than_a_byte_holds() -> None:
    class Many(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits = torch.zeros(1, 300, *x.shape[-2:])
            logits[:, 299] = 1
            return logits

    assert (predict(Many(), photograph(40, 40), 300) == 299).all()


def test_a_model_sees_channels_last_float32() -> None:
    model = Small(4)
    predict(model, photograph(64, 48), 4)
    assert model.seen[0].dtype == torch.float32
    assert model.seen[0].is_contiguous(memory_format=torch.channels_last)


def test_autocast() -> None:
    types = []

    class Watch(Small):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            types.append(logits.dtype)
            return logits

    predict(Watch(4), photograph(64, 48), 4, amp=torch.bfloat16)
    predict(Watch(4), photograph(64, 48), 4)
    assert types == [torch.bfloat16, torch.float32]


def test_a_read_only_image_is_fine_and_stays_as_it_is() -> None:
    image = photograph(40, 50)
    image.setflags(write=False)
    before = image.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict(Small(4), image, 4)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (31, 31), (33, 65), (17, 200)])
def test_images_of_any_size(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = enet(4)
    assert predict(model, photograph(*shape), 4).shape == shape
    assert predict(model, photograph(*shape), 4, flip=True, scales=(0.5, 1.5)).shape == shape


@pytest.mark.parametrize("shape", [(1, 1), (31, 40), (40, 31), (12, 20)])
def test_a_model_sees_32_pixels_of_a_smaller_photograph(shape: tuple[int, int]) -> None:
    """What is missing is added below and to the right, as the mean colour; the mask is of the photograph alone."""
    model, image = Small(4), photograph(*shape)
    mask = predict(model, image, 4)

    (seen,) = model.seen
    height, width = shape
    assert seen.shape == (1, 3, max(32, height), max(32, width))
    assert (seen[..., height:, :] == 0).all()
    assert (seen[..., width:] == 0).all()
    assert np.array_equal(mask, model(seen)[0, :, :height, :width].argmax(0).numpy())


@pytest.mark.parametrize(
    "outputs", [lambda x: torch.zeros(1, 3, *x.shape[-2:]), lambda x: torch.zeros(1, 4, 8, 8), lambda x: {"aux": x}]
)
def test_outputs_that_break_the_promise_are_refused(outputs: object) -> None:
    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> object:
            return outputs(x)

    with pytest.raises(PluginError, match="The model returned"):
        predict(Wrong(), photograph(40, 60), 4)


# --- several views ---


def average_on_the_whole_canvas(
    model: nn.Module, image: np.ndarray, num_classes: int, settings: Evaluation, flip_pairs: list[tuple[int, int]]
) -> np.ndarray:
    """The same average the plain way: all probabilities at once, summed and counted in full-size arrays of float64."""
    height, width = image.shape[:2]
    window = settings.window if isinstance(settings.window, tuple) else (settings.window, settings.window)
    x = normalize(torch.from_numpy(image.copy()).permute(2, 0, 1)[None], Input())
    mean = np.zeros((num_classes, height, width))
    for scale in settings.scales:
        total, count = np.zeros_like(mean), np.zeros((height, width))
        rows, columns = (height, width) if settings.mode == "whole" else (round(side / scale) for side in window)
        for top in window_starts(height, rows, settings.overlap):
            for left in window_starts(width, columns, settings.overlap):
                part = x[..., top : top + rows, left : left + columns]
                size = tuple(part.shape[-2:])
                scaled = F.interpolate(
                    part,
                    size=[round(side * scale) for side in size],
                    mode="bilinear",
                    align_corners=False,
                    antialias=scale < 1,
                )
                views = [model(scaled).softmax(1)]
                if settings.flip:
                    mirrored = model(scaled.flip(-1)).softmax(1).flip(-1)
                    order = list(range(num_classes))
                    for a, b in flip_pairs:
                        order[a], order[b] = b, a
                    views.append(mirrored[:, order])
                for view in views:
                    back = F.interpolate(view, size=size, mode="bilinear", align_corners=False)[0]
                    total[:, top : top + rows, left : left + columns] += back.double().detach().numpy() / len(views)
                count[top : top + rows, left : left + columns] += 1
        mean += total / count
    return mean.argmax(axis=0)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 1.7)])
@pytest.mark.parametrize("mode", ["whole", "slide"])
def test_averages_are_those_of_a_plain_computation(mode: str, scales: tuple[float, ...], flip: bool) -> None:
    image, model = photograph(100, 147), Small(5)
    settings = {"mode": mode, "scales": scales, "flip": flip, "window": (48, 64), "overlap": 0.4}
    expected = average_on_the_whole_canvas(model, image, 5, Evaluation(**settings), [(0, 1)])
    predicted = predict(model, image, 5, **settings, flip_pairs=[(0, 1)])
    assert (predicted != expected).mean() < 1e-3


def test_mirroring_swaps_left_and_right() -> None:
    class Side(nn.Module):
        """Class 0 where it gets brighter to the right, class 1 where it gets darker: mirror images of one another."""

        def forward(self, x: Tensor) -> Tensor:
            slope = F.conv2d(x.sum(1, keepdim=True), torch.tensor([[[[-1.0, 0, 1.0]]]]), padding=(0, 1))
            return torch.cat([slope, -slope, torch.full_like(slope, -9.0)], dim=1)

    ramp = np.abs(np.arange(100) - 50).astype(np.uint8) * 4
    image = np.broadcast_to(ramp[None, :, None], (40, 100, 3)).copy()
    plain = predict(Side(), image, 3)
    assert (plain[:, 10:45] == 1).all()
    assert (plain[:, 55:90] == 0).all()
    assert np.array_equal(predict(Side(), image, 3, flip=True, flip_pairs=[(0, 1)]), plain)
    unaware = predict(Side(), image, 3, flip=True)
    assert (unaware == unaware[0, 0]).all()  # both sides cancel out


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "slide", "window": 40},
        {"mode": "slide", "window": (30, 77), "overlap": 0.0},
        {"mode": "slide", "window": 500},
        {"flip": True},
        {"max_pixels": 2000},
        {"max_pixels": 2000, "flip": True},
        {"max_pixels": 1500, "mode": "slide", "window": 32, "overlap": 0.5},
        {"max_pixels": 1},
    ],
)
def test_windows_and_tiles_change_nothing_where_context_does_not_matter(options: dict) -> None:
    image = photograph(61, 153)
    if options.get("max_pixels") == 1:
        image = image[:9, :11]
    expected = predict(Pointwise(), image, 4)
    assert np.array_equal(predict(Pointwise(), image, 4, **options), expected)


# --- memory ---


def test_a_gpu_that_is_too_small_is_said_in_a_sentence() -> None:
    class Greedy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    with pytest.raises(SegctlError, match=r"too small to predict an image of 50x40 pixels\. Lower eval\.max_pixels"):
        predict(Greedy(), photograph(40, 50), 4)


def test_the_network_never_sees_more_pixels_than_asked() -> None:
    model = Small(4)
    predict(model, photograph(300, 900), 4, max_pixels=20_000)
    sizes = [x.shape[-2] * x.shape[-1] for x in model.seen]
    assert max(sizes) <= 20_000
    assert min(sizes) > 10_000  # "of about that many"
    assert sum(sizes) < 2.2 * 300 * 900  # margins cost, but not more than that


def test_scales_count_towards_the_pixels() -> None:
    model = Small(4)
    predict(model, photograph(200, 200), 4, max_pixels=40_000, scales=(1.0, 2.0))
    assert max(x.shape[-2] * x.shape[-1] for x in model.seen) <= 40_000


def test_tiles_hardly_differ_from_the_whole() -> None:
    image, model = photograph(300, 400), Small(4)
    whole, tiled = predict(model, image, 4), predict(model, image, 4, max_pixels=20_000)
    # margins are wider than the network sees, so nothing differs but by rounding
    assert (whole != tiled).mean() < 1e-4


def test_which_images_are_tiled() -> None:
    assert not is_tiled(1024, 2048, Evaluation())
    assert is_tiled(6000, 8000, Evaluation())
    assert is_tiled(1200, 2000, Evaluation(scales=(1.0, 1.5)))
    assert not is_tiled(6000, 8000, Evaluation(mode="slide", window=512))
    assert is_tiled(600, 80_000, Evaluation(mode="slide", window=512))


@pytest.mark.slow
@pytest.mark.parametrize("options", ["mode='slide', window=128", "max_pixels=2**16", "max_pixels=2**16, flip=True"])
def test_memory_is_bounded_on_a_large_image(options: str) -> None:
    # 64 classes of 1200 x 1600 float32 are 469 MiB; windows and bands need a small part of it
    program = f"""
        import resource, numpy as np, torch
        from segctl.config.schema import Evaluation, Input
        from segctl_jobs.inference import predict_mask
        model = torch.nn.Conv2d(3, 64, 1)
        def predict(height, width):
            image = np.zeros((height, width, 3), np.uint8)
            predict_mask(model, image, num_classes=64, settings=Evaluation({options}), input=Input(),
                         device=torch.device("cpu"))
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        small = predict(64, 64)
        print(predict(1200, 1600) - small)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, cwd=Path.cwd(), timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 200, f"{done.stdout} MiB"
