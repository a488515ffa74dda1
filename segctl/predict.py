"""`segctl predict`: photographs through a trained model, in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from segctl import bridge, checkpoints
from segctl.config.load import load
from segctl.errors import DataError
from segctl.results import Prediction
from segctl.runs import store
from segctl.runs.outputs import refuse_in_a_run
from segctl.runs.run import Reference
from segctl.submit import trained_run

__all__ = ["Prediction", "predict"]


def predict(
    run: Reference,
    images: Sequence[str | Path],
    *,
    out: str | Path,
    checkpoint: str = "best",
    runs_dir: Path | None = None,
    on_notice: Callable[[str], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Prediction, ...]:
    """Writes a mask and an overlay for each photograph.

    Args:
        run: Id, unique start of an id, name or path of a trained run.
        images: Picture files of any size and mode, and folders that are searched for pictures.
        out: A folder, made if need be.
        checkpoint: ``best``, ``last`` or a file.
        runs_dir: Folder of the runs; default: $SEGCTL_RUNS, else ``runs``.
        on_notice: Called with what the user should know although nothing is wrong.
        on_progress: Called after each photograph with the number done and their total.

    Raises:
        SegctlError: There is no such run, checkpoint or picture, or `out` cannot be written or is
            among a run's own files.
    """
    refuse_in_a_run(Path(out))
    trained = trained_run(run, {}, store.runs_dir(runs_dir))
    pictures = [Path(image) for image in images]
    for picture in pictures:
        if not picture.exists():
            raise DataError(f"There is no picture or folder {picture}.")
    path, notices = checkpoints.choose(trained, checkpoint)
    if on_notice is not None:
        for notice in notices:
            on_notice(notice)
    return bridge.predict(path, load(trained.config_file), pictures, Path(out), on_progress)
