"""Prediction: photographs become masks and overlays, with the classes and colours that the model was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from segctl.config import schema
from segctl.errors import DataError, SegctlError
from segctl.plugin import DatasetInfo, dataset_info
from segctl.results import Prediction
from segctl_jobs import checkpoint
from segctl_jobs.evaluate import prediction_dtype, trained_model
from segctl_jobs.inference import predict_mask
from segctl_jobs.photos import OUTPUTS, find_photos, output_names, read_photo
from segctl_jobs.pictures import class_shares, is_ours, mask_picture, overlay_picture, save_png

__all__ = ["predict"]


def predict(
    checkpoint_path: Path,
    config: schema.Config,
    images: Sequence[Path],
    out: Path,
    *,
    device: torch.device | str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Prediction, ...]:
    """Writes ``<stem>_mask.png`` and ``<stem>_overlay.png`` into `out` for each photograph.

    Photographs of one stem get longer names. How masks are predicted is the section ``eval`` of `config`.

    Args:
        checkpoint_path: A checkpoint of a trained run; its classes and palette are used.
        config: That run's configuration.
        images: Picture files, and folders that are searched for pictures.
        out: A folder, made if need be. Files in it that segctl did not write are never replaced.
        device: Default: the GPU if there is one, else the CPU.
        on_progress: Called after each photograph with the number done and their total.

    Raises:
        DataError: A picture is missing or damaged, or `out` cannot be written.
        CheckpointError: The checkpoint is missing, damaged or another model's.
    """
    photos = find_photos(images, out)
    targets = [tuple(out / f"{name}{suffix}" for suffix in OUTPUTS) for name in output_names(photos)]
    _make_way(out, [path for pair in targets for path in pair])
    state = checkpoint.read(checkpoint_path)
    info = _trained_info(state)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = trained_model(config, state, checkpoint_path, device)
    predictions = []
    for number, (photo, (mask_path, overlay_path)) in enumerate(zip(photos, targets, strict=True), start=1):
        image = read_photo(photo)
        mask = predict_mask(
            model,
            image,
            num_classes=len(info.classes),
            settings=config.eval,
            input=config.input,
            device=device,
            amp=prediction_dtype(config, device),
            flip_pairs=info.flip_pairs,
        )
        try:
            save_png(mask_picture(mask, info), mask_path)
            save_png(overlay_picture(image, mask, info), overlay_path)
        except OSError as error:
            raise _unwritable(out, error) from error
        shares = {info.classes[index]: share for index, share in class_shares(mask, info).items()}
        predictions.append(Prediction(photo, mask_path, overlay_path, shares))
        if on_progress is not None:
            on_progress(number, len(photos))
    return tuple(predictions)


def _make_way(out: Path, targets: Sequence[Path]) -> None:
    """Makes the folder, and sees to it that nothing of the user's is in the way, before any time is spent.

    Raises:
        DataError: The folder cannot be made, or holds a file of such a name that segctl did not write.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(out, error) from error
    for path in targets:
        if path.exists() and not is_ours(path):
            raise DataError(
                f"{path} exists and was not written by segctl; it is not replaced.", "Choose another folder with -o."
            )


def _unwritable(out: Path, error: OSError) -> SegctlError:
    return DataError(f"{out} cannot be written: {error.strerror or error}.", "Choose another folder with -o.")


def _trained_info(state: Mapping[str, Any]) -> DatasetInfo:
    """The facts of the data set as they were when the model was trained on it."""
    # A checkpoint knows lists where the facts are tuples; reading them as a data set's attributes mends that.
    return dataset_info(SimpleNamespace(**state["dataset_info"]))
