"""The only way from the control plane into the jobs' code: by name, when it is needed, because it brings torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from segctl.errors import LaunchError

if TYPE_CHECKING:
    from segctl.config.schema import Config, Plugin
    from segctl.results import Imported, Prediction, Upsampling


def preflight(config: Config, *, processes: int, from_checkpoint: bool = False) -> tuple[str, ...]:
    """Tries, in this process, what would otherwise fail after hours in a queue; returns what the user should know.

    Args:
        config: The training's.
        processes: How many will train together.
        from_checkpoint: The run goes on from a checkpoint.

    Raises:
        SegctlError: It would fail.
    """
    notices: tuple[str, ...] = _jobs("preflight").check(config, processes=processes, from_checkpoint=from_checkpoint)
    return notices


def preflight_evaluation(config: Config, checkpoint: Path) -> tuple[str, ...]:
    """The same for an evaluation of `checkpoint`."""
    notices: tuple[str, ...] = _jobs("preflight").check_evaluation(config, checkpoint)
    return notices


def predict(
    checkpoint: Path,
    config: Config,
    images: Sequence[Path],
    out: Path,
    on_progress: Callable[[int, int], None] | None,
) -> tuple[Prediction, ...]:
    """Predicts photographs in this process; see `segctl_jobs.predict`."""
    predictions: tuple[Prediction, ...] = _jobs("predict").predict(
        checkpoint, config, images, out, on_progress=on_progress
    )
    return predictions


def draw_sheet(config: Config, split: str, names: Sequence[str], count: int, draws: int | None, out: Path) -> Any:
    """Draws samples of a data set into a PNG; see `segctl_jobs.contact_sheet`."""
    return _jobs("contact_sheet").draw_sheet(config, split, names, count, draws, out)


def import_weights(
    file: Path,
    plugin: Plugin,
    out: Path,
    *,
    num_classes: int | None,
    partial: bool,
    version: str,
    on_report: Callable[[Imported], None],
) -> Imported:
    """Brings a foreign checkpoint into a model's names; see `segctl_jobs.weights_import`."""
    imported: Imported = _jobs("weights_import").import_weights(
        file, plugin, out, num_classes=num_classes, partial=partial, version=version, on_report=on_report
    )
    return imported


def fit_upsampling(config: Config, out: Path) -> Upsampling:
    """Computes DUNet's upsampling from the training masks; see `segctl_jobs.upsampling`."""
    fit: Upsampling = _jobs("upsampling").fit_upsampling(config, out)
    return fit


def export(
    checkpoint: Path,
    config: Config,
    format: str,
    out: Path,
    *,
    origin: Mapping[str, str],
    samples: int,
    on_progress: Callable[[str], None],
) -> Any:
    """Exports a trained model in this process and compares it; see `segctl_jobs.export`."""
    return _jobs("export").export(
        checkpoint, config, format, out, origin=origin, samples=samples, on_progress=on_progress
    )


def checkpoint_differences(one: Path, other: Path) -> tuple[str, ...]:
    """Where the newest checkpoints of two runs differ; see `segctl_jobs.drill.differences`."""
    names: tuple[str, ...] = _jobs("drill.differences").differences(one, other)
    return names


def bench(
    plugins: Sequence[Plugin],
    yardstick: str,
    device: str | None,
    setting: Mapping[str, Any],
    on_progress: Callable[[str], None],
) -> tuple[str, Any]:
    """Measures models in this process and in others that it starts; see `segctl_jobs.bench`.

    Returns:
        The device that was chosen, and what was found on it.
    """
    measure = _jobs("bench.measure")
    chosen: str = measure.choose_device(device)
    complete = _jobs("bench.subject").Setting(device=chosen, **setting)
    return chosen, measure.bench(plugins, yardstick, complete, on_progress)


def _jobs(name: str) -> Any:
    return _imported(f"segctl_jobs.{name}")


def _imported(module: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        # A torch whose CUDA libraries are missing, or a torchvision built for another torch, fails in many ways, and
        # all are the installation's. An import that fails for a reason of ours is a bug and stays one.
        if error.name is None or error.name.split(".")[0] in {"torch", "torchvision", "numpy"}:
            raise LaunchError(
                f"PyTorch cannot be imported in {_python()}: {error}.",
                "Reinstall it: pip install --force-reinstall torch torchvision",
            ) from error
        raise


def _python() -> str:
    import sys

    return sys.executable
