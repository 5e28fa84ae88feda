"""``synreal evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import plugins, weights
from .output import say


def evaluate(
    folder: Annotated[Path, typer.Argument(help="Run folder.")],
    target: Annotated[
        list[str] | None, typer.Option(help="Real data to test on; several times. (default: the run's)")
    ] = None,
    average: weights.AverageName = None,
    plugin: plugins.PluginFiles = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Test the student of a finished run again, also on targets that the run did not test on."""
    plugins.load(plugin)
    import json

    from synreal.engine import evaluate as evaluate_run
    from synreal.terminal import Console

    from .report import class_table, score_table

    scores = evaluate_run(folder, targets=target or (), average=average, device=device)
    if as_json:
        say(json.dumps({name: score.model_dump() for name, score in scores.items()}, indent=2))
        return
    console = Console()
    console.print(score_table(scores, title=f"{folder}, {average or 'last epoch'}"))
    if next(iter(scores.values())).per_class:
        console.print(class_table(scores))
