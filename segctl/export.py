"""`segctl export`: a trained run as one file for other programs, checked against the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from segctl import __version__, bridge, checkpoints
from segctl.config.load import load
from segctl.errors import ConfigError, ExportError, did_you_mean, listing
from segctl.plain_data import absolute
from segctl.results import SizeComparison
from segctl.runs import store
from segctl.runs.outputs import refuse_in_a_run
from segctl.runs.run import Reference
from segctl.submit import trained_run

__all__ = ["FORMATS", "Exported", "SizeComparison", "export"]

FORMATS = {"torch-export": ".pt2", "onnx": ".onnx", "safetensors": ".safetensors"}
_PACKAGES = {"torch-export": (), "onnx": ("onnx", "onnxscript", "onnxruntime"), "safetensors": ("safetensors",)}


@dataclass(frozen=True)
class Exported:
    """A file that has been compared with the model.

    Attributes:
        run: Id of the trained run.
        checkpoint: What was exported.
        path: The file.
        format: One of `FORMATS`.
        size: Bytes.
        sizes: The logits at image sizes that the model was not traced with.
        logits_tolerance: The largest difference that is accepted there.
        split: The data set's split of which the mIoU was taken; None where it was not.
        samples: How many images of it, spread evenly.
        miou: The model's mIoU on them.
        exported_miou: The export's.
        miou_tolerance: The largest difference between these that is accepted.
    """

    run: str
    checkpoint: Path
    path: Path
    format: str
    size: int
    sizes: tuple[SizeComparison, ...]
    logits_tolerance: float
    split: str | None
    samples: int | None
    miou: float | None
    exported_miou: float | None
    miou_tolerance: float


def export(
    run: Reference,
    format: str,
    *,
    out: str | Path | None = None,
    checkpoint: str = "best",
    samples: int = 100,
    data_root: str | Path | None = None,
    runs_dir: Path | None = None,
    on_notice: Callable[[str], None] | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> Exported:
    """Writes a trained model to a file, reads it back, and keeps it if it gives what the model gives.

    ``torch-export`` and ``onnx`` hold a program: images ``(N, 3, H, W)`` uint8 RGB of any number and size, from 32
    pixels on, to logits ``(N, C, H, W)`` float32; the normalisation is inside. ``safetensors`` holds the weights.
    Classes, colours and the rest are JSON in the file's metadata under ``segctl``.

    Args:
        run: Id, unique start of an id, name or path of a trained run.
        format: One of `FORMATS`.
        out: The file; default: ``exports/<checkpoint>.<suffix>`` in the run's folder. An existing one is replaced. In a
            run's folder only its ``exports/`` may be written.
        checkpoint: ``best``, ``last`` or a file.
        samples: Images of the evaluation split on which the mIoU is compared; 0: none, the data are not needed then.
        data_root: Where the data sets are; default: where the run had them.
        runs_dir: Folder of the runs; default: $SEGCTL_RUNS, else ``runs``.
        on_notice: Called with what the user should know although nothing is wrong.
        on_progress: Called with what is being done.

    Raises:
        ExportError: A package is missing, the model cannot be exported so, or the export gives something else.
        SegctlError: There is no such run, checkpoint or data set, or `out` is among a run's own files.
    """
    if format not in FORMATS:
        raise ConfigError(
            f"{format!r} is not a format; there are {listing(FORMATS)}. {did_you_mean(format, FORMATS)}".strip()
        )
    if samples < 0:
        raise ConfigError(f"{samples} images cannot be compared.", "Give 0 to compare none.")
    missing = [package for package in _PACKAGES[format] if find_spec(package) is None]
    if missing:
        raise ExportError(
            f"{format} needs {listing(missing)}.", "Install what export needs: pip install 'segctl[export]'"
        )
    trained = trained_run(run, {}, store.runs_dir(runs_dir))
    path, notices = checkpoints.choose(trained, checkpoint)
    for notice in notices:
        if on_notice is not None:
            on_notice(notice)
    config = load(trained.config_file)
    if data_root is not None:
        config = config.model_copy(update={"data_root": absolute(str(data_root))})
    target = _target(out, trained.exports, f"{path.stem}{FORMATS[format]}")
    found = bridge.export(
        path,
        config,
        format,
        target,
        origin={"run": trained.id, "version": __version__},
        samples=samples,
        on_progress=on_progress or (lambda doing: None),
    )
    return Exported(
        run=trained.id,
        checkpoint=path,
        path=target,
        format=format,
        size=target.stat().st_size,
        sizes=found.sizes,
        logits_tolerance=found.logits_tolerance,
        split=found.split,
        samples=found.samples,
        miou=found.miou,
        exported_miou=found.exported_miou,
        miou_tolerance=found.miou_tolerance,
    )


def _target(out: str | Path | None, folder: Path, name: str) -> Path:
    if out is None:
        return folder / name
    target = Path(out).expanduser()
    refuse_in_a_run(target)
    if target.is_dir():
        raise ExportError(f"{target} is a folder.", "Name a file with -o.")
    if not target.parent.is_dir():
        raise ExportError(f"There is no folder {target.parent}.", "Make it, or choose another file with -o.")
    return target.absolute()
