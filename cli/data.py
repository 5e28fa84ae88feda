"""``synreal data``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Data sets: list them, look at them.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Data sets: list them, look at them."""


@app.command("list")
def list_data(as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False) -> None:
    """List the data sets, what they are for and what they need."""
    import json
    from dataclasses import asdict

    from synreal.tasks import data

    infos = [data.info(name) for name in data.available()]
    if as_json:
        typer.echo(json.dumps([{**asdict(info), "tasks": info.tasks} for info in infos], indent=2))
        return
    for info in infos:
        typer.echo(f"{info.name:<8} {info.domain:<7} {'/'.join(info.tasks)}  {info.summary} Needs {info.needs}.")


@app.command()
def show(
    source: Annotated[str, typer.Argument(help="Synthetic data set; its targets are shown beside it.")],
    task: Annotated[str, typer.Option("--task", "-t", help="Whose labels: cls, seg or det.")] = "cls",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="PNG to write. (default: SOURCE.png; SOURCE-seg.png, SOURCE-det.png)"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of a rendered source.")] = 0,
) -> None:
    """Draw the source and its targets with a task's labels: classes, masks or boxes."""
    from synreal.errors import ConfigError
    from synreal.tasks import data, task_name

    task = task_name(task)
    suffix = {"classification": "", "segmentation": "-seg", "detection": "-det"}[task]
    output = output or Path(f"{source}{suffix}.png")
    targets = data.default_targets(source, task)
    if output.suffix.lower() != ".png":
        raise ConfigError(f"The contact sheet is a PNG; got --output {output}.")
    from synreal import figures

    sheets: dict[str, Callable[..., Path]] = {
        "classification": figures.contact_sheet,
        "segmentation": figures.mask_sheet,
        "detection": figures.box_sheet,
    }
    rows = {f"{source} (source, synthetic)": data.load(source, "train", task=task, seed=seed)}
    rows |= {f"{name} (target, real)": data.load(name, "test", task=task) for name in targets}
    try:
        typer.echo(f"Wrote {sheets[task](rows, output)}")
    except OSError as error:
        raise ConfigError(f"Cannot write {output}: {error.strerror}.") from None
