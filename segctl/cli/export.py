"""``segctl export``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segctl.cli import options, output
from segctl.cli.options import HOW, OUTPUT

if TYPE_CHECKING:
    from segctl.export import Exported

Format = Annotated[str, typer.Option("--format", metavar="FORMAT", help="torch-export, onnx or safetensors.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="Default: exports/ in the run's folder.",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
Checkpoint = Annotated[str, typer.Option("--checkpoint", metavar="WHICH", help="best (by mIoU), last or a file.")]
Samples = Annotated[
    int,
    typer.Option(
        "--samples",
        metavar="N",
        min=0,
        help="Images of the evaluation split, spread evenly, on which the mIoU is compared; 0: none.",
        rich_help_panel=HOW,
    ),
]


def export(
    run: options.RunReference,
    format: Format,
    out: Out = None,
    checkpoint: Checkpoint = "best",
    samples: Samples = 100,
    data_root: options.DataRoot = None,
    runs_dir: options.RunsDir = None,
    as_json: options.Json = False,
) -> None:
    """Export a trained model, and check that what was written gives what the model gives.

    The program takes uint8 RGB images (N, 3, H, W) of any number and size, and gives logits.
    The normalisation is inside. safetensors holds the weights alone.
    """
    from segctl.export import export as run_export

    with output.busy("Exporting") as say:
        exported = run_export(
            run,
            format,
            out=out,
            checkpoint=checkpoint,
            samples=samples,
            data_root=data_root,
            runs_dir=runs_dir,
            on_notice=lambda notice: output.note(f"note: {notice}"),
            on_progress=say,
        )
    if as_json:
        output.document(asdict(exported))
    else:
        _show(exported)


def _show(exported: Exported) -> None:
    from segctl.cli.table import Column, Row, table

    columns = (Column("CHECK"), *(Column(title, right=True) for title in ("MODEL", "EXPORT", "DIFFERENCE", "ALLOWED")))
    rows = [
        Row(
            (
                f"logits at {size.number}x3x{size.height}x{size.width}, relative",
                "",
                "",
                f"{size.difference:.1e}",
                f"{exported.logits_tolerance:.0e}",
            )
        )
        for size in exported.sizes
    ]
    if exported.miou is not None and exported.exported_miou is not None:
        mious = (exported.miou, exported.exported_miou, abs(exported.miou - exported.exported_miou))
        figures = (*(f"{100 * miou:.2f}" for miou in mious), f"{100 * exported.miou_tolerance:.2f}")
        rows.append(Row((f"mIoU on {exported.samples} images of {exported.split}, %", *figures)))
    console = output.results()
    console.print(table(columns, rows, console.width))
    typer.echo(f"{exported.path} ({exported.size / 2**20:.1f} MiB)")
