"""``segctl predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segctl.cli import options

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
