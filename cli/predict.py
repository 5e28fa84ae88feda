"""``synreal predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import plugins, weights
from .output import say


def predict(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.", show_default=False)],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...", help="Files, folders, or patterns such as 'frames/*.png'.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="New folder for CSV and JSON, masks as palette PNGs and over the images, boxes as COCO's and YOLO's "
            "files and drawn, in place of printing.",
            show_default=False,
        ),
    ] = None,
    average: weights.AverageName = None,
    threshold: Annotated[float, typer.Option(help="Score below which boxes are left out, from 0 to 1.")] = 0.5,
    skip: Annotated[
        bool, typer.Option("--skip", help="Leave out images that cannot be read, and name them, in place of ending.")
    ] = False,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images at a time. (default: as in the run's tests)", show_default=False)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Data-loading processes. (default: the run's)", show_default=False)
    ] = None,
    plugin: plugins.PluginFiles = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of CSV.")] = False,
) -> None:
    """Predict images that nobody labelled with the student of a finished run.

    Prints a table as CSV: the probability of each class, the share of each class in the pixels, or boxes.
    """
    plugins.load(plugin)
    from synreal.engine.predicting import predict as predictions_of
    from synreal.engine.predicting import tell

    found = predictions_of(
        folder,
        images,
        average=average,
        threshold=threshold,
        skip=skip,
        batch_size=batch_size,
        workers=workers,
        device=device,
    )
    told = tell(found, output)
    if output is None:
        say(told.json if as_json else told.table.rstrip("\n"))
    else:
        say(f"{output}: {told.images} images, {len(told.files)} files")
