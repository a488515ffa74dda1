"""``segctl weights dunet-upsampling``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from segctl.cli import options, output

Dataset = Annotated[
    str,
    typer.Option("--dataset", metavar="NAME", help="See 'segctl plugins list datasets'.", rich_help_panel=options.WHAT),
]
Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="FILE", help="Where it goes.", rich_help_panel=options.OUTPUT)
]


def dunet_upsampling(
    context: typer.Context,
    dataset: Dataset,
    out: Out,
    data_root: options.DataRoot = None,
    plugin_options: options.PluginOptions = [],  # noqa: B006 - Typer makes a new list
    as_json: options.Json = False,
) -> None:
    """Compute DUNet's upsampling from a data set's training masks, for --model.upsampling_weights.

    Options of the data set: --dataset.OPTION VALUE. For another output stride than 16: --model.output_stride 32.
    """
    from segctl.upsampling import dunet_upsampling as run

    with output.busy("Computing the upsampling"):
        found = run(dataset, out=out, flags=options.configured(context.params))
    if as_json:
        output.document(asdict(found))
    else:
        typer.echo(
            f"{found.out}: {found.channels} numbers for each tile of {found.ratio}x{found.ratio} pixels keep "
            f"{output.percent(found.explained)} % of the variance and {output.percent(found.pixel_accuracy)} % of the "
            f"labels of {found.tiles} tiles."
        )
    output.note(f"{out} is for --model.upsampling_weights of segctl train --model dunet.")
