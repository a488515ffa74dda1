"""`segctl weights dunet-upsampling`: the optimum by another method, and its use through the program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import segctl
from segctl.config.schema import Plugin
from segctl.errors import DataError
from segctl.registry import create_model
from segctl_jobs import upsampling
from segctl_jobs.upsampling import principal_components

CLASSES, PIXELS, COMPONENTS = 3, 16, 12


def labels(count: int) -> torch.Tensor:
    """Tiles with structure: the second half repeats the first, and many are of one class."""
    generator = torch.Generator().manual_seed(0)
    tiles = torch.randint(CLASSES, (count, PIXELS), generator=generator)
    tiles[:, 8:] = tiles[:, :8]
    tiles[: count // 3] = tiles[: count // 3, :1]
    return tiles


def exact(tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean tile, principal components and their standard deviations, by a singular value decomposition in float64."""
    labelled = (tiles >= 0).double()
    vectors = F.one_hot(tiles.clamp(min=0), CLASSES).transpose(1, 2).double() * labelled[:, None]
    mean = vectors.sum(0) / labelled.sum(0)
    centred = (vectors - mean * labelled[:, None]).flatten(1)
    _, scale, components = torch.linalg.svd(centred, full_matrices=False)
    return mean.flatten(), components[:COMPONENTS].T, scale / len(tiles) ** 0.5


@pytest.mark.parametrize("ignored", [False, True], ids=["all labelled", "some ignored"])
def test_it_is_the_exact_optimum(ignored: bool) -> None:
    tiles = labels(300)
    if ignored:
        tiles[5:60, 3:7] = -1
    mean, components, deviations = exact(tiles)
    found = principal_components(tiles, CLASSES, COMPONENTS)
    torch.testing.assert_close(found.bias.double(), mean, atol=1e-6, rtol=0)
    norms = found.weight.double().norm(dim=0)
    torch.testing.assert_close(norms, deviations[:COMPONENTS], atol=1e-5, rtol=0)
    unit = found.weight.double() / norms
    # Components of equal variance are determined up to a rotation; what they span is unique.
    torch.testing.assert_close(unit @ unit.T, components @ components.T, atol=1e-4, rtol=0)
    share = deviations[:COMPONENTS].square().sum() / deviations.square().sum()
    assert found.explained == pytest.approx(float(share), abs=1e-5)


def test_no_other_linear_map_of_as_many_numbers_rebuilds_better() -> None:
    tiles = labels(200)
    vectors = F.one_hot(tiles, CLASSES).transpose(1, 2).flatten(1).float()
    found = principal_components(tiles, CLASSES, COMPONENTS)

    def error(weight: torch.Tensor) -> float:
        basis = torch.linalg.qr(weight).Q
        centred = vectors - vectors.mean(0)
        return float((centred - centred @ basis @ basis.T).square().sum())

    generator = torch.Generator().manual_seed(1)
    others = [found.weight + size * torch.randn(found.weight.shape, generator=generator) for size in (0.001, 0.01, 1.0)]
    assert all(error(found.weight) < error(other) for other in others)


def test_fewer_tiles_than_numbers_leave_the_rest_zero() -> None:
    found = principal_components(labels(200)[150:154], CLASSES, COMPONENTS)
    assert found.weight.shape == (CLASSES * PIXELS, COMPONENTS)
    assert (found.weight[:, 4:] == 0).all()
    assert found.explained == pytest.approx(1, abs=1e-5)


def test_tiles_of_one_class_need_the_mean_alone() -> None:
    found = principal_components(torch.ones(5, PIXELS, dtype=torch.int64), CLASSES, COMPONENTS)
    assert found.bias.view(CLASSES, PIXELS).tolist() == [[0] * PIXELS, [1] * PIXELS, [0] * PIXELS]
    assert found.weight.abs().max() == 0
    assert found.explained == 1


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes, parted at a random height in each mask, and a border without labels."""
    monkeypatch.setattr(upsampling, "TILES", 400)
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "folder" / name).mkdir(parents=True)
    for index in range(20):
        mask = np.zeros((40, 50), np.uint8)
        mask[random.integers(5, 35) :] = 1
        mask[:, :2] = 255
        Image.fromarray(mask).save(tmp_path / "folder" / "masks" / f"{index}.png")
        Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "folder" / "images" / f"{index}.png")
    (tmp_path / "folder" / "classes.yaml").write_text("names: [sky, ground]\nignore: 255\n")
    return tmp_path


def test_a_model_starts_with_what_the_command_wrote(folder: Path) -> None:
    out = folder / "w.pt"
    found = segctl.dunet_upsampling("folder", out=out, flags={"data_root": str(folder)})
    assert (found.num_classes, found.ratio, found.channels) == (2, 16, 256)
    assert 300 < found.tiles < 450
    assert found.pixel_accuracy > 0.99
    model = create_model(Plugin(name="dunet", options={"backbone": "resnet18", "upsampling_weights": str(out)}), 2)
    # A tile with its horizon in the middle: the numbers that describe it give its labels back.
    tile = torch.zeros(16, 16, dtype=torch.int64)
    tile[8:] = 1
    vector = F.one_hot(tile, 2).permute(2, 0, 1).flatten().float()
    weight = model.upsample.weight.flatten(1)
    numbers = torch.linalg.lstsq(weight, (vector - model.upsample.bias)[:, None], driver="gelsd").solution
    scores = model.upsample(numbers.view(1, -1, 1, 1))
    assert (scores[0].argmax(0) == tile).float().mean() > 0.95


def test_masks_without_labels_are_refused(folder: Path) -> None:
    for path in (folder / "folder" / "masks").iterdir():
        Image.fromarray(np.full((40, 50), 255, np.uint8)).save(path)
    with pytest.raises(DataError, match="no labelled pixels"):
        segctl.dunet_upsampling("folder", out=folder / "w.pt", flags={"data_root": str(folder)})
    assert not (folder / "w.pt").exists()


def test_masks_smaller_than_a_tile_are_padded_with_no_label(folder: Path) -> None:
    for path in (folder / "folder" / "masks").iterdir():
        Image.fromarray(np.array(Image.open(path))[:10]).save(path)
    flags = {"data_root": str(folder), "model.output_stride": 32}
    assert segctl.dunet_upsampling("folder", out=folder / "w.pt", flags=flags).ratio == 32
