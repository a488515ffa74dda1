"""`segctl weights dunet-upsampling`: DUNet's upsampling, computed from a data set's training masks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segctl import bridge
from segctl.config.load import resolve
from segctl.results import Upsampling
from segctl.runs.outputs import refuse_in_a_run

__all__ = ["Upsampling", "dunet_upsampling"]


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
        RunError: `out` is among a run's own files.
    """
    target = Path(out).expanduser()
    refuse_in_a_run(target)
    config = resolve(flags={"model": "dunet", **(flags or {}), "dataset": dataset})
    return bridge.fit_upsampling(config, target)
