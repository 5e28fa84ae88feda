"""``synreal list``."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from . import plugins


class Kind(str, Enum):
    """What can be listed."""

    regularizers = "regularizers"
    tasks = "tasks"
    datasets = "datasets"
    backbones = "backbones"
    presets = "presets"


def show(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    contains: Annotated[str, typer.Option("--filter", help="Only names that contain this.")] = "",
    plugin: plugins.PluginFiles = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List regularizers, tasks, data sets, backbones or presets."""
    import json

    plugins.load(plugin)
    rows = {name: text for name, text in _rows(kind).items() if contains in name}
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    width = max((len(name) for name in rows), default=0)
    for name, text in rows.items():
        typer.echo(f"{name:<{width}}  {text}".rstrip())


def _rows(kind: Kind) -> dict[str, str]:
    if kind is Kind.tasks:
        from synreal import tasks

        return tasks.available()
    if kind is Kind.datasets:
        from synreal import data

        return {name: f"{'/'.join(kind.domains)}  {kind.summary}" for name, kind in data.kinds().items()}
    if kind is Kind.presets:
        from synreal import presets

        return {name: f"{recipe.task}  {recipe.summary}" for name, recipe in presets.PRESETS.items()}
    if kind is Kind.regularizers:
        from synreal.registry import loaded
        from synreal.regularizers import REGULARIZERS

        specs = REGULARIZERS.classes()
        brought = {name: f" [{plugin.origin}]" for plugin in loaded() for name in plugin.names.get("regularizers", ())}
        return {name: f"{spec.summary} ({spec.paper}){brought.get(name, '')}" for name, spec in specs.items()}
    from synreal.weights import backbones

    return backbones()
