"""``synreal export``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from . import plugins, weights
from .output import say


class Format(str, Enum):
    """What a network can be written as."""

    onnx = "onnx"
    program = "torch.export"
    script = "torchscript"


def export(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The .onnx, .pt2 or .ts to write.", show_default=False)
    ],
    format: Annotated[Format | None, typer.Option(help="(default: as the file's ending says)")] = None,
    average: weights.AverageName = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Images to check the file with. (default: the run's first target)"),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="With how many of them.")] = 32,
    tolerance: Annotated[
        float,
        typer.Option(
            help="Largest difference of a probability or side of a box, and share of other answers, accepted."
        ),
    ] = 1e-3,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file and its card.")] = False,
    plugin: plugins.PluginFiles = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written and the check as JSON.")] = False,
) -> None:
    """Write a trained network as a file that runs without synreal, check it, and write its model card."""
    plugins.load(plugin)
    import json

    from synreal.engine.exporting import export as export_run
    from synreal.engine.exporting import told_of

    done = export_run(
        folder,
        output,
        format=None if format is None else format.value,
        average=average,
        images=images,
        count=count,
        tolerance=tolerance,
        overwrite=overwrite,
    )
    if as_json:
        say(json.dumps(done.as_dict(), indent=2))
        return
    say(f"{done.file}: {done.format}, checked on {done.checked_on}: {told_of(done.agreement)}.")
    say(f"{done.card}: its model card.")
