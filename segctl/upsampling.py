"""`segctl weights dunet-upsampling`: DUNet's upsampling, computed from a data set's training masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from segctl import bridge
from segctl.config.load import resolve

__all__ = ["Upsampling", "dunet_upsampling"]


@dataclass(frozen=True)
class Upsampling:
    """What was computed.

    Attributes:
        out: The file that it was written to.
        num_classes: Number of classes of the data set.
        ratio: Height and width of a tile in pixels; the model's output stride.
        channels: How many numbers describe a tile.
        tiles: How many tiles of the training masks it was computed from.
        explained: The share of the tiles' variance that they keep when rebuilt from these numbers.
        pixel_accuracy: The share of the tiles' pixels whose class is right when they are rebuilt.
    """

    out: Path
    num_classes: int
    ratio: int
    channels: int
    tiles: int
    explained: float
    pixel_accuracy: float


def dunet_upsampling(dataset: str, *, out: str | Path, flags: Mapping[str, Any] | None = None) -> Upsampling:
    """Writes the upsampling that rebuilds the training masks best, for the option ``upsampling_weights`` of ``dunet``.

    Tian et al. 2019, https://arxiv.org/abs/1903.02120, section 3.1. It takes about a minute and needs no GPU.

    Args:
        dataset: Name of a data set plugin.
        out: The file to write. An existing one is replaced.
        flags: Values by dotted path, as for `segctl.train`: the data set's options, ``data_root``, and
            ``model.output_stride``.

    Raises:
        ConfigError: An option is not acceptable.
        PluginError: There is no such data set.
        DataError: The data are missing or faulty, or have no labels.
        WeightsError: `out` cannot be written.
    """
    config = resolve(flags={"model": "dunet", **(flags or {}), "dataset": dataset})
    target = Path(out).expanduser()
    return Upsampling(target, **asdict(bridge.fit_upsampling(config, target)))
