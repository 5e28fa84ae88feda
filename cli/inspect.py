"""``synreal inspect``."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Look inside backbones.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Look inside backbones."""


@app.command()
def stages(
    backbone: Annotated[str, typer.Argument(help="timm name.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Print a backbone's stages, checked by a real forward pass."""
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from synreal.stages import find_stages
    from synreal.weights import create_backbone

    model, _ = create_backbone(backbone, num_classes=1000, weights="none")
    found = find_stages(model)
    if as_json:
        typer.echo(json.dumps([asdict(stage) for stage in found.values()], indent=2))
        return
    table = Table(title=backbone, title_justify="left")
    for heading in ("stage", "module", "channels", "stride", "layout"):
        table.add_column(heading, justify="right" if heading in ("channels", "stride") else "left")
    for stage in found.values():
        table.add_row(stage.name, stage.path, str(stage.channels), str(stage.stride), stage.layout)
    Console(highlight=False, markup=False, emoji=False).print(table)
