"""`segctl weights dunet-upsampling`: the linear upsampling that rebuilds a data set's masks best.

Tian et al., "Decoders Matter for Semantic Segmentation", 2019, https://arxiv.org/abs/1903.02120, section 3.1: a tile of
r x r labels, one-hot, is a vector v of N = C r r numbers. Of all matrices P of K rows and W of K columns, those that
minimise the sum over tiles of ||v - W P v||² for centred v span the first K principal components of the tiles.

A pixel without a label counts as the mean of its place in a tile: it moves neither the mean nor the components.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from segctl.config.schema import Config
from segctl.errors import DataError, PluginError, WeightsError
from segctl.plugin import DatasetInfo, SegmentationDataset
from segctl.results import Upsampling
from segctl.runs.files import replacing
from segctl_jobs.build import create_model, open_split
from segctl_jobs.data import check_pair

__all__ = ["Basis", "fit_upsampling", "principal_components"]

TILES = 20_000  # at most about as many; some thousands already settle all components that matter
SEED = 0
OVERSAMPLING = 32
ITERATIONS = 8

_OTHER_FILE = "Choose another file with -o."


@dataclass(frozen=True)
class Basis:
    """What rebuilds a tile from K numbers x as ``weight @ x + bias``.

    Attributes:
        weight: ``(N, K)``. Over the tiles that it was computed from, each number of x has the variance 1; columns are
            0 where there are fewer components than K.
        bias: The mean tile, ``(N,)``.
        explained: The share of the tiles' variance that they keep when rebuilt.
    """

    weight: Tensor
    bias: Tensor
    explained: float


def fit_upsampling(config: Config, out: Path) -> Upsampling:
    """Computes the upsampling of the configured model for the configured training masks, and writes it to `out`.

    Raises:
        DataError: The data are missing or faulty, or have no labels.
        PluginError: The model has no upsampling of DUNet's kind.
        WeightsError: `out` cannot be written.
    """
    if not out.parent.is_dir():  # not only after a minute
        raise WeightsError(f"{out} cannot be written: there is no folder {out.parent}.", _OTHER_FILE)
    dataset, info = open_split(config, None, training=True)
    classes = len(info.classes)
    rows, channels = _wanted(config, classes)
    ratio = math.isqrt(rows // classes)
    tiles = _tiles(dataset, info, ratio)
    found = principal_components(tiles, classes, channels)
    fit = Upsampling(
        out=out,
        num_classes=classes,
        ratio=ratio,
        channels=channels,
        tiles=len(tiles),
        explained=found.explained,
        pixel_accuracy=_pixel_accuracy(found, tiles, classes),
    )
    state = {"upsample.weight": found.weight[:, :, None, None].contiguous(), "upsample.bias": found.bias}
    try:
        with replacing(out) as target:
            torch.save({"model": state}, target)
    except OSError as error:
        raise WeightsError(f"{out} cannot be written: {error.strerror or error}.", _OTHER_FILE) from error
    return fit


def _wanted(config: Config, classes: int) -> tuple[int, int]:
    """N and K of the model's upsampling."""
    with torch.device("meta"):
        state = create_model(config.model, classes, from_checkpoint=True).state_dict()
    weight = state.get("upsample.weight")
    if weight is None or math.isqrt(weight.shape[0] // classes) ** 2 * classes != weight.shape[0]:
        raise PluginError(f"Model {config.model.name} has no data-dependent upsampling.", "Leave --model at dunet.")
    return weight.shape[0], weight.shape[1]


def _tiles(dataset: SegmentationDataset, info: DatasetInfo, ratio: int) -> Tensor:
    """Tiles from random places of each mask: labels ``(M, r * r)`` int64, -1 where there is none."""
    read_mask = getattr(dataset, "mask", lambda index: dataset[index][1])
    each = math.ceil(TILES / len(dataset))

    def cut(index: int) -> np.ndarray:
        mask = np.asarray(read_mask(index))
        check_pair(mask, mask, info, dataset.name(index))
        labels = np.where(mask == info.ignore_index, np.int16(-1), mask.astype(np.int16))
        missing = [(0, max(0, ratio - side)) for side in labels.shape]
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(labels, missing, constant_values=-1), (ratio, ratio))
        random = np.random.default_rng([SEED, index])
        places = (random.integers(count, size=each) for count in windows.shape[:2])
        return windows[tuple(places)].reshape(each, -1)

    with ThreadPoolExecutor(4) as threads:
        tiles = np.concatenate(list(threads.map(cut, range(len(dataset)))))
    tiles = tiles[(tiles >= 0).any(axis=1)]
    if not len(tiles):
        raise DataError(
            "The training masks have no labelled pixels.", "Check the masks and the data set's ignore_index."
        )
    return torch.from_numpy(tiles.astype(np.int64))


def principal_components(tiles: Tensor, num_classes: int, channels: int) -> Basis:
    """The mean and the first principal components of one-hot tiles.

    By randomised subspace iteration (Halko, Martinsson and Tropp 2011, https://arxiv.org/abs/0909.4061, algorithm 4.4),
    which only multiplies with the tiles; their covariance would not fit into memory for many classes.

    Args:
        tiles: Labels ``(M, P)`` int64 of P pixels, -1 where there is none.
        num_classes: Number of classes C; a tile's vector has N = C P numbers, class by class.
        channels: Number of components K.
    """
    vectors = _OneHot(tiles, num_classes)
    generator = torch.Generator().manual_seed(SEED)
    basis = torch.randn(vectors.mean.numel(), channels + OVERSAMPLING, generator=generator)
    for _ in range(ITERATIONS):
        image = torch.linalg.qr(vectors @ basis).Q
        basis = torch.linalg.qr(vectors.transposed(image)).Q
    _, scale, rotation = torch.linalg.svd(vectors @ basis, full_matrices=False)
    scale, components = scale[:channels], (basis @ rotation.T)[:, :channels]
    weight = torch.zeros(len(components), channels)
    weight[:, : len(scale)] = components * (scale / math.sqrt(len(tiles)))
    variance = vectors.squared_norm()
    explained = float(scale.double().square().sum() / variance) if variance else 1.0
    return Basis(weight, vectors.mean.flatten(), explained)


class _OneHot:
    """The matrix ``(M, N)`` of the tiles' centred one-hot vectors, which is never built.

    Attributes:
        mean: The share of each class in the labels of each place, ``(C, P)``.
    """

    def __init__(self, tiles: Tensor, num_classes: int) -> None:
        count, pixels = tiles.shape
        self._labelled = (tiles >= 0).float()
        row, place = (tiles >= 0).nonzero(as_tuple=True)
        column = tiles[row, place] * pixels + place
        ones = torch.ones(len(row))
        self._ones = torch.sparse_coo_tensor(
            torch.stack([row, column]), ones, (count, num_classes * pixels), check_invariants=True
        ).coalesce()
        shares = torch.zeros(num_classes * pixels).index_add_(0, column, ones).view(num_classes, pixels)
        self.mean = shares / self._labelled.sum(0).clamp(min=1)

    def __matmul__(self, other: Tensor) -> Tensor:
        """``(N, l)`` to ``(M, l)``."""
        mean = torch.einsum("cp,cpl->pl", self.mean, other.view(*self.mean.shape, -1))
        return torch.sparse.mm(self._ones, other) - self._labelled @ mean

    def transposed(self, other: Tensor) -> Tensor:
        """The transposed matrix times ``(M, l)``: ``(N, l)``."""
        mean = self.mean[:, :, None] * (self._labelled.T @ other)
        return torch.sparse.mm(self._ones.t(), other) - mean.flatten(0, 1)

    def squared_norm(self) -> float:
        """The sum of the squares of all entries: each label adds 1 - 2 mean[its class] + |mean|²."""
        each = self._labelled.sum(0).double()
        mean = self.mean.double()
        # Of the labels in a place, the share mean[c] is of class c.
        return float((each * (1 - mean.square().sum(0))).sum())


def _pixel_accuracy(found: Basis, tiles: Tensor, num_classes: int, sample: int = 2000) -> float:
    """The share of the labels that are the highest of their pixel's scores when the tiles are rebuilt."""
    tiles = tiles[torch.linspace(0, len(tiles) - 1, min(sample, len(tiles))).long()]
    vectors = _OneHot(tiles, num_classes)
    vectors.mean = found.bias.view_as(vectors.mean)
    norms = found.weight.norm(dim=0).clamp(min=1e-12)
    components = found.weight / norms
    rebuilt = vectors @ components @ components.T + found.bias
    guess = rebuilt.view(len(tiles), num_classes, -1).argmax(1)
    return float((guess == tiles)[tiles >= 0].float().mean())
