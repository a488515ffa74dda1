"""``segctl predict``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from segctl.cli import options, output

Images = Annotated[
    list[Path],
    typer.Argument(metavar="PHOTO|FOLDER", help="Pictures, or folders of pictures.", show_default=False),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the masks and overlays.")]
Checkpoint = Annotated[str, typer.Option("--checkpoint", metavar="WHICH", help="best (by mIoU), last or a file.")]


def predict(
    run: options.RunReference,
    images: Images,
    out: Out,
    checkpoint: Checkpoint = "best",
    runs_dir: options.RunsDir = None,
    as_json: options.Json = False,
) -> None:
    """Segment photographs with a trained run: a palette mask and an overlay with a legend for each."""
    from segctl.predict import predict as run_predict

    with output.busy("Predicting") as say:
        predictions = run_predict(
            run,
            images,
            out=out,
            checkpoint=checkpoint,
            runs_dir=runs_dir,
            on_notice=lambda notice: output.note(f"note: {notice}"),
            on_progress=lambda done, total: say(f"Predicting {done}/{total}"),
        )
    if as_json:
        output.document([asdict(prediction) for prediction in predictions])
        return
    for prediction in predictions:
        shares = ", ".join(f"{name} {output.percent(share)} %" for name, share in prediction.shares.items())
        typer.echo(f"{prediction.mask}: {shares}")
